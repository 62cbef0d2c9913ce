//! Counts and measures the lines of an agent's output.

/// Number of whole lines in `bytes`.
pub(crate) fn count(bytes: &[u8]) -> u32 {
    u32::try_from(memchr::memchr_iter(b'\n', bytes).count()).unwrap_or(u32::MAX)
}

/// Length of whole lines at the start of `bytes`: as many as fit into `about` bytes, but at least one. `None` if there
/// is no whole line.
pub(crate) fn length(bytes: &[u8], about: usize) -> Option<usize> {
    let some = &bytes[..bytes.len().min(about)];
    let last = memchr::memrchr(b'\n', some);
    let end = last.or_else(|| memchr::memchr(b'\n', &bytes[some.len()..]).map(|end| some.len() + end));
    end.map(|end| end + 1)
}

/// Whether one of these lines is longer than `longest` bytes.
pub(crate) fn has_longer(lines: &[u8], longest: usize) -> bool {
    let mut start = 0;
    memchr::memchr_iter(b'\n', lines).any(|end| end - std::mem::replace(&mut start, end + 1) > longest)
}
