//! The parts about several callers, and about callers that do not wait for their answers.

use std::{
    future::{Future, ready},
    thread,
};

use switchboard_core::{
    accounts::{Addition, CompareAndSet, EntryKey, EntryVersion, Outcome, Period, Space},
    journal::Durability,
};
use switchboard_runtime::Accounts;

use super::author::{Checked, answered, counter, key, same, value, window};

/// How often each caller counts.
const TIMES: u64 = 20;

/// A change without random parts.
fn plain(key: &EntryKey, expect: Option<EntryVersion>, bytes: Vec<u8>) -> CompareAndSet {
    CompareAndSet { key: key.clone(), expect, value: Some(value(bytes)), durability: Durability::Synced }
}

/// Counts in an entry, with every change repeated until it succeeds, and in a counter.
async fn count(store: &impl Accounts, key: &EntryKey) -> Checked {
    for _ in 0..TIMES {
        loop {
            let entry = answered(store.get(key.clone()).await)?;
            let (expect, number) = match entry {
                None => (None, 0),
                Some(entry) => {
                    let bytes: [u8; 8] = entry.value.bytes()[..].try_into().map_err(|_| "another value")?;
                    (Some(entry.version), u64::from_le_bytes(bytes))
                }
            };
            let change = plain(key, expect, (number + 1).to_le_bytes().to_vec());
            match answered(store.compare_and_set(change).await)? {
                Outcome::Stored(_) => break,
                Outcome::Conflict(stored) if stored != expect => {}
                other @ (Outcome::Conflict(_) | Outcome::Removed) => {
                    return Err(format!("a change that expects {expect:?} becomes {other:?}"));
                }
            }
        }
        answered(store.add(one()).await)?;
    }
    Ok(())
}

fn one() -> Addition {
    let (counter, window) = (counter("owner", "turns"), window(Period::Hour, 1));
    Addition { counter, window, amount: 1, durability: Durability::Written }
}

/// The number that all callers counted to.
async fn counted(store: &impl Accounts, key: &EntryKey, expected: u64) -> Checked {
    let entry = answered(store.get(key.clone()).await)?.ok_or("there is no entry")?;
    same("the changes of the entry", &&entry.value.bytes()[..], &&expected.to_le_bytes()[..])?;
    let total = answered(store.add(Addition { amount: 0, ..one() }).await)?;
    same("the total", &total.unsigned_abs(), &expected)
}

/// Several callers in one task, and several threads.
pub(super) async fn at_once(store: &impl Accounts) -> Checked {
    let key = key(Space::Budgets, "owner", "count");
    let callers =
        tokio::join!(count(store, &key), count(store, &key), count(store, &key), count(store, &key));
    for caller in [callers.0, callers.1, callers.2, callers.3] {
        caller?;
    }
    counted(store, &key, 4 * TIMES).await?;
    let on_a_thread = || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(count(store, &key))
    };
    thread::scope(|scope| {
        let threads = [(); 4].map(|()| scope.spawn(on_a_thread));
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })?;
    counted(store, &key, 8 * TIMES).await
}

/// Begins a change and does not wait for its answer.
async fn begin<T>(change: impl Future<Output = T>) {
    tokio::select! {
        biased;
        _ = change => {}
        () = ready(()) => {}
    }
}

pub(super) async fn lost_answers(store: &impl Accounts) -> Checked {
    for round in 0..TIMES {
        let key = key(Space::ReadMarks, "owner", &format!("{round}"));
        let mut stored = None;
        for n in 0..3_u8 {
            let (lost, again) = (vec![n; 2_000], vec![n + 100; 2_000]);
            begin(store.compare_and_set(plain(&key, stored, lost.clone()))).await;
            let outcome = answered(store.compare_and_set(plain(&key, stored, again.clone())).await)?;
            let (version, expected) = match outcome {
                Outcome::Stored(version) => (version, again),
                Outcome::Conflict(Some(version)) => (version, lost),
                Outcome::Conflict(None) | Outcome::Removed => {
                    return Err(format!("behind a change whose answer is lost: {outcome:?}"));
                }
            };
            let entry = answered(store.get(key.clone()).await)?.ok_or("there is no entry")?;
            same("the version", &entry.version, &version)?;
            if entry.value.bytes()[..] != expected[..] {
                return Err(format!("the value is not that of {outcome:?}"));
            }
            stored = Some(version);
        }
        let before = answered(store.add(Addition { amount: 0, ..one() }).await)?;
        begin(store.add(one())).await;
        let after = answered(store.add(one()).await)?;
        if !(1..=2).contains(&(after - before)) {
            return Err(format!("of an addition with and one without an answer, {} came", after - before));
        }
    }
    Ok(())
}
