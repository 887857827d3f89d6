//! One record: an entry as it lies in a segment. All integers are big-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | index of the entry |
//! | 4 | length of the sealed payload, at most [`MAX_SEALED`]; 0 once it is erased |
//! | 4 | place in its batch, from 0: entry `index - place` began the batch that one `fdatasync` acknowledged |
//! | 32 | entry hash |
//! | length | sealed payload (`entry.rs`) |
//! | 16 | check: the first 16 bytes of SHA-256(sealed payload ‖ the 48 bytes before it) |
//!
//! The check finds accidents, the tree finds intent. It begins with the payload, so that the many who append hash that
//! and the one who writes need not.

use ring::digest::{Context, SHA256};

use crate::{entry::MAX_SEALED, tree::Hash};

/// Length of what stands before the sealed payload.
pub(crate) const HEADER: usize = 48;
/// Length of the check.
const CHECK: usize = 16;

/// The beginning of a record, not yet checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) index: u64,
    length: u32,
    place: u32,
    entry: Hash,
}

impl Header {
    /// `None` when the length cannot be true.
    pub(crate) fn parse(header: &[u8; HEADER]) -> Option<Self> {
        let (index, rest) = header.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (place, entry) = rest.split_first_chunk()?;
        let header = Self {
            index: u64::from_be_bytes(*index),
            length: u32::from_be_bytes(*length),
            place: u32::from_be_bytes(*place),
            entry: entry.try_into().ok()?,
        };
        (usize::try_from(header.length).ok()? <= MAX_SEALED).then_some(header)
    }

    /// Length of the whole record.
    pub(crate) fn whole(&self) -> usize {
        HEADER + self.length as usize + CHECK
    }
}

/// A whole record that passed its check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) index: u64,
    pub(crate) entry: Hash,
    /// Empty once the payload is erased.
    pub(crate) sealed: &'a [u8],
    pub(crate) place: u32,
}

impl<'a> Record<'a> {
    /// The record that `bytes` are, neither more nor less.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (checked, check) = bytes.split_last_chunk::<CHECK>()?;
        let (header, sealed) = checked.split_first_chunk::<HEADER>()?;
        let Header { index, length, place, entry } = Header::parse(header)?;
        let whole = sealed.len() == length as usize && *check == seal(begin(sealed), header);
        whole.then_some(Self { index, entry, sealed, place })
    }

    /// The entry that began this one's batch: everything before it was acknowledged when this record was written.
    pub(crate) fn batch(&self) -> Option<u64> {
        self.index.checked_sub(self.place.into())
    }
}

/// Appends a record to `bytes`. `sealed` is at most [`MAX_SEALED`] bytes long, and `begun` what [`begin`] gives for it;
/// a longer one gives a record nobody reads.
pub(crate) fn encode(bytes: &mut Vec<u8>, index: u64, place: u32, entry: &Hash, sealed: &[u8], begun: Context) {
    let length = u32::try_from(sealed.len()).unwrap_or(u32::MAX);
    let start = bytes.len();
    bytes.extend(index.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend(place.to_be_bytes());
    bytes.extend(entry);
    let header = bytes.get(start..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; HEADER]);
    bytes.extend(sealed);
    bytes.extend(seal(begun, &header));
}

/// The check, as far as the payload goes.
pub(crate) fn begin(sealed: &[u8]) -> Context {
    let mut context = Context::new(&SHA256);
    context.update(sealed);
    context
}

fn seal(mut begun: Context, header: &[u8; HEADER]) -> [u8; CHECK] {
    begun.update(header);
    let mut check = [0; CHECK];
    check.copy_from_slice(begun.finish().as_ref().split_at(CHECK).0);
    check
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn reads_back(index: u64, place: u32, entry: [u8; 32], sealed in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = vec![1, 2, 3];
            encode(&mut bytes, index, place, &entry, &sealed, begin(&sealed));
            let record = Record::parse(&bytes[3..]).unwrap();
            prop_assert_eq!(record, Record { index, entry, sealed: &sealed, place });
            prop_assert_eq!(record.batch(), index.checked_sub(place.into()));
            let header = Header::parse(bytes[3..][..HEADER].try_into().unwrap()).unwrap();
            prop_assert_eq!(header.whole(), bytes.len() - 3);
        }

        #[test]
        fn no_flipped_bit_and_no_other_length_passes(sealed in prop::collection::vec(any::<u8>(), 0..40), bit: usize) {
            let mut bytes = Vec::new();
            encode(&mut bytes, 5, 0, &[7; 32], &sealed, begin(&sealed));
            for cut in 0..bytes.len() {
                prop_assert_eq!(Record::parse(&bytes[..cut]), None);
            }
            let longer = [&bytes[..], &[0]].concat();
            prop_assert_eq!(Record::parse(&longer), None);
            let bit = bit % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Record::parse(&bytes), None);
        }

        #[test]
        fn any_bytes_are_parsed_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Record::parse(&bytes), None);
        }
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let mut bytes = Vec::new();
        encode(&mut bytes, 0x0102, 3, &[7; 32], b"sealed", begin(b"sealed"));
        let front = [&[0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 6, 0, 0, 0, 3][..], &[7; 32]].concat();
        let check = crate::tree::sha256(&[b"sealed", &front[..]].concat());
        assert_eq!(bytes, [&front[..], b"sealed", &check[..16]].concat());
    }

    #[test]
    fn a_length_that_cannot_be_true_is_refused() {
        let mut header = [0; HEADER];
        header[8..12].copy_from_slice(&u32::try_from(MAX_SEALED).unwrap().to_be_bytes());
        assert!(Header::parse(&header).is_some());
        header[11] += 1;
        assert!(Header::parse(&header).is_none());
    }
}
