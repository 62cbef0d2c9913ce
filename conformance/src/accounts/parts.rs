//! The parts of the suite.

use std::collections::BTreeSet;

use switchboard_core::accounts::{
    EntryKey, EntryPage, EntryQuery, EntryVersion, KEPT_WINDOWS, LONGEST_NAME, LONGEST_VALUE, Outcome,
    PAGE_BYTES, PAGE_ENTRIES, Period, Space,
};
use switchboard_runtime::Accounts;

use super::{
    author::{Author, Checked, answered, counter, key, name, owner, same, value, window},
    concurrent,
    part::Part,
    under_test::AccountsUnderTest,
};

/// How many random changes a part makes.
const CHANGES: u64 = 200;

pub(super) async fn check<S: AccountsUnderTest>(part: Part, store: &mut S, author: &mut Author) -> Checked {
    match part {
        Part::Entries => entries(store.accounts(), author).await,
        Part::Versions => versions(store, author).await,
        Part::Apart => apart(store.accounts(), author).await,
        Part::Sizes => sizes(store.accounts(), author).await,
        Part::Counters => counters(store.accounts(), author).await,
        Part::Windows => windows(store.accounts(), author).await,
        Part::Lists => lists(store.accounts(), author).await,
        Part::Concurrent => concurrent::at_once(store.accounts()).await,
        Part::LostAnswers => concurrent::lost_answers(store.accounts()).await,
        Part::Reopening => reopening(store, author).await,
    }
}

/// Makes a random change of one of some entries: mostly as expected, else with a version of another time.
async fn change(store: &impl Accounts, author: &mut Author, keys: &[EntryKey]) -> Checked {
    let key = &keys[author.below(keys.len() as u64) as usize];
    let new = if author.below(4) == 0 { None } else { Some(author.value()) };
    if author.below(3) > 0 {
        author.put(store, key, new).await?;
    } else {
        let newest = author.newest.map_or(0, |newest| newest.0);
        let expect = author.below(newest + 2).checked_sub(1).map(EntryVersion);
        author.set(store, key, expect, new).await?;
    }
    author.has(store, key).await
}

async fn entries(store: &impl Accounts, author: &mut Author) -> Checked {
    let keys = ["a", "b", "c", "d"].map(|text| key(Space::Pins, "owner", text));
    for _ in 0..CHANGES {
        change(store, author, &keys).await?;
    }
    for key in &keys {
        author.put(store, key, None).await?;
        author.has(store, key).await?;
        // Nothing is removed once more.
        author.set(store, key, None, None).await?;
    }
    Ok(())
}

async fn versions<S: AccountsUnderTest>(store: &mut S, author: &mut Author) -> Checked {
    let (first, other) = (key(Space::Tokens, "owner", "first"), key(Space::Tokens, "ann", "other"));
    let new = || Some(value(vec![1]));
    let mut given = BTreeSet::new();
    for round in 0..8 {
        for key in [&first, &other, &first] {
            let Outcome::Stored(version) = author.put(store.accounts(), key, new()).await? else {
                return Err("a value is not stored".to_owned());
            };
            if !given.insert(version) {
                return Err(format!("{version:?} was given before"));
            }
        }
        author.put(store.accounts(), &first, None).await?;
        // No version of the removed entry is valid for the next one.
        for old in &given {
            author.set(store.accounts(), &first, Some(*old), new()).await?;
        }
        if round % 3 == 0 {
            store.reopen();
        }
    }
    Ok(())
}

async fn apart(store: &impl Accounts, author: &mut Author) -> Checked {
    let owners = ["owner", "ann", "an"];
    let mut keys = Vec::new();
    for space in Space::ALL {
        keys.extend(owners.map(|owner| key(*space, owner, "name")));
    }
    for key in &keys {
        let new = author.value();
        author.put(store, key, Some(new)).await?;
    }
    for _ in 0..40 {
        change(store, author, &keys).await?;
    }
    author.has_all(store).await?;
    for space in Space::ALL {
        for of in owners {
            let query = query(*space, of, "");
            same("the list", &answered(store.list(query.clone()).await)?, &author.page(&query))?;
        }
    }
    for (number, of) in owners.into_iter().enumerate() {
        for text in ["name", "names"] {
            author.add(store, &counter(of, text), &window(Period::Day, 3), 1 + number as i64).await?;
        }
    }
    author.has_all(store).await
}

async fn sizes(store: &impl Accounts, author: &mut Author) -> Checked {
    let longest = "n".repeat(LONGEST_NAME);
    let names = [longest.as_str(), "ü/ 'quoted\" \\ % _ \u{10ffff}", " ", "0"];
    for (text, length) in names.into_iter().zip([LONGEST_VALUE, 0, LONGEST_VALUE - 1, 256]) {
        let key = key(Space::PushSubscriptions, "owner", text);
        let bytes = (0..length).map(|n| n.to_le_bytes()[0]).collect();
        author.put(store, &key, Some(value(bytes))).await?;
        author.has(store, &key).await?;
        author.add(store, &counter("owner", text), &window(Period::Hour, 1), 1).await?;
    }
    author.has_all(store).await
}

async fn counters(store: &impl Accounts, author: &mut Author) -> Checked {
    let counters = [counter("owner", "turns"), counter("owner", "tokens"), counter("ann", "turns")];
    let periods = [Period::Hour, Period::Day, Period::Month];
    for _ in 0..CHANGES {
        let counter = &counters[author.below(3) as usize];
        let window = window(periods[author.below(3) as usize], author.below(3));
        let amount = match author.below(20) {
            0 => i64::MAX,
            1 => i64::MIN,
            2 => 0,
            n => author.below(1_000 * n) as i64 - 3_000,
        };
        author.add(store, counter, &window, amount).await?;
    }
    Ok(())
}

async fn windows(store: &impl Accounts, author: &mut Author) -> Checked {
    let counters = [counter("owner", "turns"), counter("ann", "turns")];
    let kept = KEPT_WINDOWS as u64;
    for period in [Period::Hour, Period::Day, Period::Month] {
        // In the end, a clock that goes back for a while.
        let in_order = 0..2 * kept;
        for number in in_order.chain([kept, 2 * kept, 3]).chain(2 * kept..2 * kept + 4) {
            for counter in &counters {
                author.add(store, counter, &window(period, number), 1).await?;
            }
        }
        for number in 0..2 * kept + 5 {
            for counter in &counters {
                author.add(store, counter, &window(period, number), 0).await?;
            }
        }
    }
    Ok(())
}

fn query(space: Space, of: &str, prefix: &str) -> EntryQuery {
    EntryQuery { space, owner: owner(of), prefix: prefix.to_owned(), after: None, limit: usize::MAX }
}

/// All pages of a query, which are compared with what they must be.
async fn all_pages(store: &impl Accounts, author: &Author, mut query: EntryQuery) -> Checked<Vec<EntryPage>> {
    let mut pages = Vec::new();
    loop {
        let page = answered(store.list(query.clone()).await)?;
        same(&format!("the page of {query:?}"), &page, &author.page(&query))?;
        query.after = page.next.clone();
        pages.push(page);
        if query.after.is_none() {
            return Ok(pages);
        }
    }
}

async fn lists(store: &impl Accounts, author: &mut Author) -> Checked {
    let (space, letters) = (Space::Audit, ["a", "b", "B", "%", "_", "é", "\u{10ffff}"]);
    for _ in 0..CHANGES {
        let text: String =
            (0..=author.below(3)).map(|_| letters[author.below(letters.len() as u64) as usize]).collect();
        let new = if author.below(5) == 0 { None } else { Some(author.value()) };
        author.put(store, &key(space, "owner", &text), new).await?;
    }
    for prefix in ["", "a", "aB", "%", "_", "é", "\u{10ffff}", "nothing"] {
        for limit in [1, 3, PAGE_ENTRIES] {
            let query = EntryQuery { limit, ..query(space, "owner", prefix) };
            let pages = all_pages(store, author, query.clone()).await?;
            let listed: Vec<_> = pages.into_iter().flat_map(|page| page.entries).collect();
            let whole = author.page(&EntryQuery { limit: usize::MAX, ..query });
            same("all entries", &listed, &whole.entries)?;
        }
        // A page may begin before the prefix, or after all of it.
        for after in ["%", "z"] {
            let query = EntryQuery { after: Some(name(after)), ..query(space, "owner", prefix) };
            all_pages(store, author, query).await?;
        }
    }
    let nothing = EntryQuery { limit: 0, ..query(space, "owner", "") };
    same("a page of nothing", &answered(store.list(nothing.clone()).await)?, &author.page(&nothing))?;
    bounds(store, author).await
}

/// Pages are bounded whatever the limit is.
async fn bounds(store: &impl Accounts, author: &mut Author) -> Checked {
    for number in 0..=PAGE_ENTRIES {
        let key = key(Space::Revocations, "owner", &format!("{number:05}"));
        author.put(store, &key, Some(value(Vec::new()))).await?;
    }
    for number in 0..=PAGE_BYTES / LONGEST_VALUE {
        let key = key(Space::Revocations, "ann", &format!("{number:05}"));
        author.put(store, &key, Some(value(vec![7; LONGEST_VALUE]))).await?;
    }
    for of in ["owner", "ann"] {
        let pages = all_pages(store, author, query(Space::Revocations, of, "")).await?;
        same("the pages of many or large entries", &pages.len(), &2)?;
    }
    Ok(())
}

async fn reopening<S: AccountsUnderTest>(store: &mut S, author: &mut Author) -> Checked {
    let keys = ["a", "b", "c"].map(|text| key(Space::Budgets, "owner", text));
    let (counter, window) = (counter("owner", "turns"), window(Period::Month, 1));
    for _ in 0..6 {
        for _ in 0..8 {
            change(store.accounts(), author, &keys).await?;
            author.add(store.accounts(), &counter, &window, 3).await?;
        }
        store.reopen();
        author.has_all(store.accounts()).await?;
        for key in &keys {
            author.has(store.accounts(), key).await?;
        }
        author.add(store.accounts(), &counter, &window, 0).await?;
    }
    Ok(())
}
