//! Numbers as unsigned LEB128 (DWARF, section 7.6): seven bits per byte, the lowest first.

/// Encodes numbers, one after the other.
pub(super) fn encode(numbers: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(numbers.len());
    for &number in numbers {
        let mut rest = number;
        while rest >= 0x80 {
            bytes.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
    }
    bytes
}

/// Decodes the result of [`encode`]; `None` if the bytes are invalid.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<u32>> {
    let mut numbers = Vec::with_capacity(bytes.len());
    let (mut number, mut shift) = (0_u32, 0);
    for &byte in bytes {
        number |= u32::from(byte & 0x7f).checked_shl(shift)?;
        shift += 7;
        if byte < 0x80 {
            numbers.push(number);
            (number, shift) = (0, 0);
        }
    }
    (shift == 0).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_come_back() {
        let numbers = [0, 1, 127, 128, 300, 65_536, u32::MAX];
        assert_eq!(decode(&encode(&numbers)).as_deref(), Some(&numbers[..]));
        assert_eq!(decode(&[0x80]), None);
        assert_eq!(decode(&[0xff; 6]), None);
        assert_eq!(decode(&[]).as_deref(), Some(&[][..]));
    }
}
