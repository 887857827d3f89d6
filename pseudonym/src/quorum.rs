//! Which holders answer together, and the Lagrange coefficients that make their shares one key.

use curve25519_dalek::scalar::Scalar;

/// Exactly `t` holder ids, ascending, none zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quorum(Vec<u16>);

/// Why a list of holder ids is not a quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuorumError {
    /// A quorum has exactly as many holders as the key's threshold.
    #[error("a quorum has {threshold} holders, not {found}")]
    Size {
        /// The key's threshold `t`.
        threshold: u16,
        /// How many ids were given.
        found: usize,
    },
    /// Holder ids start at 1: a share at 0 would be the key itself.
    #[error("a holder id is zero")]
    ZeroId,
    /// Ids must be ascending and distinct.
    #[error("the quorum's holder ids are not strictly ascending")]
    NotAscending,
    /// The key has no such holder.
    #[error("holder {holder} is not a holder of this key")]
    UnknownHolder {
        /// The id that the key does not list.
        holder: u16,
    },
}

impl Quorum {
    pub(crate) fn new(ids: &[u16], threshold: u16) -> Result<Self, QuorumError> {
        if ids.len() != usize::from(threshold) {
            return Err(QuorumError::Size { threshold, found: ids.len() });
        }
        if ids.contains(&0) {
            return Err(QuorumError::ZeroId);
        }
        if !ids.is_sorted_by(|a, b| a < b) {
            return Err(QuorumError::NotAscending);
        }
        Ok(Self(ids.to_vec()))
    }

    pub(crate) fn ids(&self) -> &[u16] {
        &self.0
    }

    pub(crate) fn contains(&self, holder: u16) -> bool {
        self.0.binary_search(&holder).is_ok()
    }

    /// `λ_j(S) = Π m / (m − j)` over the other members m of S: the weight of share j when interpolating at 0. Never zero.
    pub(crate) fn lambda(&self, holder: u16) -> Scalar {
        let own = Scalar::from(holder);
        let others = self.0.iter().filter(|&&id| id != holder).map(|&id| Scalar::from(id));
        let (numerator, denominator) =
            others.fold((Scalar::ONE, Scalar::ONE), |(above, below), other| (above * other, below * (other - own)));
        numerator * denominator.invert()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_strictly_ascending_ids_of_the_right_number() {
        assert!(Quorum::new(&[1, 3], 2).is_ok());
        assert_eq!(Quorum::new(&[1], 2), Err(QuorumError::Size { threshold: 2, found: 1 }));
        assert_eq!(Quorum::new(&[1, 2, 3], 2), Err(QuorumError::Size { threshold: 2, found: 3 }));
        assert_eq!(Quorum::new(&[0, 1], 2), Err(QuorumError::ZeroId));
        assert_eq!(Quorum::new(&[2, 1], 2), Err(QuorumError::NotAscending));
        assert_eq!(Quorum::new(&[2, 2], 2), Err(QuorumError::NotAscending));
    }

    #[test]
    fn lambda_interpolates_at_zero() {
        // f(x) = 5 + 7x + 11x², so Σ λ_j f(j) must be 5.
        let f = |x: u16| Scalar::from(5 + 7 * u64::from(x) + 11 * u64::from(x).pow(2));
        for ids in [[1, 2, 3], [1, 2, 65535], [7, 11, 400]] {
            let quorum = Quorum::new(&ids, 3).unwrap();
            let sum: Scalar = ids.iter().map(|&id| quorum.lambda(id) * f(id)).sum();
            assert_eq!(sum, Scalar::from(5_u8));
        }
    }
}
