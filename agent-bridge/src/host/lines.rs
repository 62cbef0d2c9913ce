//! Lines of an agent's output.

/// How many whole lines these are.
pub(crate) fn count(bytes: &[u8]) -> u32 {
    u32::try_from(memchr::memchr_iter(b'\n', bytes).count()).unwrap_or(u32::MAX)
}

/// How many bytes whole lines are, of which about so many are wanted: at least one line, if there is one.
pub(crate) fn length(bytes: &[u8], about: usize) -> Option<usize> {
    let some = &bytes[..bytes.len().min(about)];
    let last = memchr::memrchr(b'\n', some);
    let end = last.or_else(|| memchr::memchr(b'\n', &bytes[some.len()..]).map(|end| some.len() + end));
    end.map(|end| end + 1)
}

/// Whether one of these lines is longer than so many bytes.
pub(crate) fn has_longer(lines: &[u8], longest: usize) -> bool {
    let mut start = 0;
    memchr::memchr_iter(b'\n', lines).any(|end| end - std::mem::replace(&mut start, end + 1) > longest)
}
