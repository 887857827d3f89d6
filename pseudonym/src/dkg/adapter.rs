//! `frost-ristretto255` speaks `rand_core` 0.6, we speak 0.10.

use frost_ristretto255::rand_core as v06;
use rand_core::CryptoRng;

/// Our generator, lent to a library of the older interface.
pub(crate) struct Rng06<'a, R>(pub(crate) &'a mut R);

impl<R: CryptoRng> v06::RngCore for Rng06<'_, R> {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        self.0.fill_bytes(dest);
    }

    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), v06::Error> {
        self.0.fill_bytes(dest);
        Ok(())
    }
}

impl<R: CryptoRng> v06::CryptoRng for Rng06<'_, R> {}
