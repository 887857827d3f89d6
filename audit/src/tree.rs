//! The Merkle tree of RFC 6962 §2.1 (the same as RFC 9162 §2.1): hashes, the frontier a writer keeps, proofs and
//! their checks.
//!
//! Leaves are numbered from 0; a tree of `size` leaves has leaves `0..size`. Proof *paths* are ranges of leaves: the
//! proof is the root of each range in turn, so that whoever holds leaves, tiles or a cache can make it.

use std::ops::Range;

use ring::digest::{SHA256, digest};

/// A SHA-256 hash: 32 bytes.
pub type Hash = [u8; 32];

/// SHA-256 of `data`.
pub(crate) fn sha256(data: &[u8]) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest(&SHA256, data).as_ref());
    hash
}

/// The hash of a leaf: SHA-256(0x00 ‖ `entry`), RFC 6962 §2.1. Entries of this log are 32 bytes, other logs' are of
/// any length.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    match <&Hash>::try_from(entry) {
        Ok(entry) => {
            let mut leaf = [0; 33];
            leaf.split_at_mut(1).1.copy_from_slice(entry);
            sha256(&leaf)
        }
        Err(_) => sha256(&[&[0], entry].concat()),
    }
}

/// The hash of an inner node: SHA-256(0x01 ‖ `left` ‖ `right`), RFC 6962 §2.1.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut node = [1; 65];
    let (_, children) = node.split_at_mut(1);
    let (first, second) = children.split_at_mut(32);
    first.copy_from_slice(left);
    second.copy_from_slice(right);
    sha256(&node)
}

/// What is needed of a tree to append to it: its size and the roots of its perfect subtrees, one per set bit of the
/// size, so at most 64 hashes whatever the size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// Appends one leaf hash.
    pub fn push(&mut self, leaf: Hash) {
        self.push_each(leaf, |_, _| ());
    }

    /// Appends one leaf hash and tells `made` of every inner node that this completes, with its height.
    pub(crate) fn push_each(&mut self, leaf: Hash, mut made: impl FnMut(u32, &Hash)) {
        let mut node = leaf;
        for height in 1..=self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                node = node_hash(&left, &node);
                made(height, &node);
            }
        }
        self.peaks.push(node);
        self.size += 1;
    }

    /// The frontier of a tree whose perfect subtrees of `256^level` leaves, at most 255 for each level, are `levels`,
    /// lowest level first.
    pub(crate) fn stacked(levels: &[Vec<Hash>]) -> Self {
        let mut whole = Self::default();
        for hashes in levels.iter().rev() {
            let level: Self = hashes.iter().copied().collect();
            whole.size = (whole.size << 8) + level.size;
            whole.peaks.extend(level.peaks);
        }
        whole
    }

    /// The number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The Merkle tree hash; of the empty tree SHA-256 of nothing.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.peaks.iter().copied().rev().reduce(|right, left| node_hash(&left, &right)).unwrap_or_else(|| sha256(b""))
    }
}

impl FromIterator<Hash> for Frontier {
    fn from_iter<I: IntoIterator<Item = Hash>>(leaves: I) -> Self {
        let mut frontier = Self::default();
        leaves.into_iter().for_each(|leaf| frontier.push(leaf));
        frontier
    }
}

/// The root over `leaves` (leaf hashes).
#[must_use]
pub fn root(leaves: &[Hash]) -> Hash {
    leaves.iter().copied().collect::<Frontier>().root()
}

/// Where a tree of the leaves `low..high`, at least two, divides: at the largest power of two below its size.
pub(crate) fn middle(low: u64, high: u64) -> u64 {
    low + (1 << (high - low - 1).ilog2())
}

/// The ranges whose roots prove that leaf `index` stands in the tree of `size` leaves, lowest first: `PATH(index,
/// D[size])` of RFC 6962 §2.1.1. `None` when there is no such leaf.
#[must_use]
pub fn inclusion_path(index: u64, size: u64) -> Option<Vec<Range<u64>>> {
    let (mut low, mut high, mut path) = (0, size, Vec::new());
    while high.checked_sub(low)? > 1 {
        let middle = middle(low, high);
        if index < middle {
            path.push(middle..high);
            high = middle;
        } else {
            path.push(low..middle);
            low = middle;
        }
    }
    path.reverse();
    (index < size).then_some(path)
}

/// The ranges whose roots prove that the tree of `old` leaves is the beginning of the tree of `new` ones, lowest
/// first: `PROOF(old, D[new])` of RFC 6962 §2.1.2. Empty when `old` is 0 (which begins every tree) or equal to `new`;
/// `None` when it is larger.
#[must_use]
pub fn consistency_path(old: u64, new: u64) -> Option<Vec<Range<u64>>> {
    let (mut low, mut high, mut path) = (0, new, Vec::new());
    if old == 0 {
        return Some(path);
    }
    while old < high {
        let middle = middle(low, high);
        if old <= middle {
            path.push(middle..high);
            high = middle;
        } else {
            path.push(low..middle);
            low = middle;
        }
    }
    if low > 0 {
        path.push(low..high);
    }
    path.reverse();
    (old <= new).then_some(path)
}

/// The proof a path stands for: the root of each of its ranges over `leaves`. `None` when a range passes their end.
#[must_use]
pub fn proof(leaves: &[Hash], path: &[Range<u64>]) -> Option<Vec<Hash>> {
    let range = |range: &Range<u64>| Some(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?);
    path.iter().map(|ends| leaves.get(range(ends)?).map(root)).collect()
}

/// Whether `proof` shows that the leaf hash `leaf` stands at `index` in the tree of `size` leaves with this `root`
/// (RFC 9162 §2.1.3.2).
#[must_use]
pub fn verify_inclusion(index: u64, size: u64, leaf: Hash, proof: &[Hash], root: &Hash) -> bool {
    let Some(path) = inclusion_path(index, size).filter(|path| path.len() == proof.len()) else { return false };
    let found = path.iter().zip(proof).fold(leaf, |node, (range, sibling)| {
        if index < range.start { node_hash(&node, sibling) } else { node_hash(sibling, &node) }
    });
    found == *root
}

/// Whether `proof` shows that the tree of `old` leaves with `old_root` is the beginning of the tree of `new` leaves
/// with `new_root` (RFC 9162 §2.1.4.2).
#[must_use]
pub fn verify_consistency(old: u64, old_root: &Hash, new: u64, new_root: &Hash, proof: &[Hash]) -> bool {
    let Some(path) = consistency_path(old, new).filter(|path| path.len() == proof.len()) else { return false };
    if old == 0 {
        return *old_root == sha256(b"");
    }
    let mut steps = path.iter().zip(proof).peekable();
    // The proof begins with the last perfect subtree of the old tree, or leaves it out when that is the old tree
    // itself.
    let seed = steps.next_if(|(range, _)| range.end == old).map_or(*old_root, |(_, seed)| *seed);
    let (first, second) = steps.fold((seed, seed), |(first, second), (range, sibling)| {
        if range.end <= old {
            (node_hash(sibling, &first), node_hash(sibling, &second))
        } else {
            (first, node_hash(&second, sibling))
        }
    });
    first == *old_root && second == *new_root
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;

    /// The eight inputs and roots of Certificate Transparency's own tests (`testonly` of the reference implementation).
    const INPUTS: [&str; 8] =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    const ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn hash(hex: &str) -> Hash {
        HEXLOWER.decode(hex.as_bytes()).unwrap().try_into().unwrap()
    }

    fn reference_leaves() -> Vec<Hash> {
        INPUTS.map(|input| leaf_hash(&HEXLOWER.decode(input.as_bytes()).unwrap())).to_vec()
    }

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|index| leaf_hash(&index.to_be_bytes())).collect()
    }

    /// MTH, word for word from RFC 6962 §2.1, sharing nothing with the code above but the hash function.
    fn naive_root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => sha256(b""),
            [leaf] => *leaf,
            _ => {
                let mut k = 1;
                while k * 2 < leaves.len() {
                    k *= 2;
                }
                sha256(&[&[1][..], &naive_root(&leaves[..k]), &naive_root(&leaves[k..])].concat())
            }
        }
    }

    #[test]
    fn roots_are_those_of_certificate_transparency() {
        let leaves = reference_leaves();
        for (size, expected) in ROOTS.iter().enumerate() {
            assert_eq!(root(&leaves[..size]), hash(expected), "size {size}");
            assert_eq!(naive_root(&leaves[..size]), hash(expected), "size {size}");
        }
    }

    #[test]
    fn proofs_are_those_of_certificate_transparency() {
        let leaves = reference_leaves();
        let check = |path: Option<Vec<Range<u64>>>, expected: &[&str]| {
            let expected: Vec<Hash> = expected.iter().map(|hex| hash(hex)).collect();
            assert_eq!(proof(&leaves, &path.unwrap()).unwrap(), expected);
        };
        check(
            inclusion_path(0, 8),
            &[
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        );
        check(
            inclusion_path(5, 8),
            &[
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        );
        check(
            consistency_path(6, 8),
            &[
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        );
        check(
            consistency_path(2, 5),
            &[
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        );
        check(consistency_path(8, 8), &[]);
        assert_eq!(inclusion_path(8, 8), None);
        assert_eq!(inclusion_path(0, 0), None);
        assert_eq!(consistency_path(9, 8), None);
    }

    proptest! {
        #[test]
        fn frontier_agrees_with_the_definition(count in 0_u64..600) {
            let leaves = leaves(count);
            prop_assert_eq!(root(&leaves), naive_root(&leaves));
        }

        #[test]
        fn inclusion_is_proved_and_nothing_else_is(size in 1_u64..300, pick: u64, other: u64, flip: u64) {
            let (leaves, index, other) = (leaves(size), pick % size, other % size);
            let root = naive_root(&leaves);
            let path = inclusion_path(index, size).unwrap();
            let mut proof = proof(&leaves, &path).unwrap();
            let at = |index: u64| leaves[usize::try_from(index).unwrap()];
            prop_assert!(verify_inclusion(index, size, at(index), &proof, &root));
            prop_assert_eq!(verify_inclusion(index, size, at(other), &proof, &root), other == index);
            // A proof does not always bind the size (RFC 6962 never says it does), but it binds the position.
            prop_assert!(other == index || !verify_inclusion(other, size, at(index), &proof, &root));
            prop_assert!(!verify_inclusion(index, size, at(index), &[&proof[..], &[root]].concat(), &root));
            if !proof.is_empty() {
                let step = usize::try_from(flip).unwrap() % proof.len();
                proof[step][(flip % 32) as usize] ^= 1;
                prop_assert!(!verify_inclusion(index, size, at(index), &proof, &root));
                proof.pop();
                prop_assert!(!verify_inclusion(index, size, at(index), &proof, &root));
            }
        }

        #[test]
        fn consistency_is_proved_and_a_rewritten_past_is_not(new in 1_u64..300, pick: u64, change: u64) {
            let old = pick % (new + 1);
            let mut leaves = leaves(new);
            let past = usize::try_from(old).unwrap();
            let old_root = naive_root(&leaves[..past]);
            let path = consistency_path(old, new).unwrap();
            let honest = proof(&leaves, &path).unwrap();
            prop_assert!(verify_consistency(old, &old_root, new, &naive_root(&leaves), &honest));
            prop_assert!(!verify_consistency(old, &[7; 32], new, &naive_root(&leaves), &honest));
            if old > 0 {
                prop_assert!(!verify_consistency(old, &old_root, new, &[7; 32], &honest));
                leaves[usize::try_from(change % old).unwrap()][0] ^= 1;
                let forged = proof(&leaves, &path).unwrap();
                prop_assert!(!verify_consistency(old, &old_root, new, &naive_root(&leaves), &forged));
            }
        }
    }
}
