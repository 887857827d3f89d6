//! The two binary messages between a node and a key holder (`OGE1`, `OGR1`): a batch of blinded elements goes out, the
//! holder's evaluations and one batch proof come back. Lengths are checked before anything is allocated.
//!
//! All integers are big-endian. The request is
//! `"OGE1" | suite u8 = 1 | epoch u32 | generation u32 | purpose u8 | issued i64 | m u8 | m × u16 quorum, ascending |
//! request id 16 | count u16 | count × 32 | signature 64`, the answer
//! `"OGR1" | epoch u32 | generation u32 | request id 16 | count u16 | count × 32 | proof 64 | signature 64`.
//! The request's signature is over `"ogniwo/v1/eval" | len8 realm | len8 member | len8 holder |` all before; the
//! answer's over `"ogniwo/v1/evaluated" |` SHA-512(request ‖ answer before the signature).

use crate::encoding::push_len8;
use crate::{Epoch, MemberId, PublicKey, Realm, SigningKey, Timestamp};

/// Most elements of one batch.
pub const MAX_ELEMENTS: usize = 4096;
/// Media type of both messages.
pub const MEDIA_TYPE: &str = "application/octet-stream";

const SUITE_RISTRETTO255_SHA512: u8 = 1;

/// What evaluations are wanted for. Not trusted: it is what the member says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvaluationPurpose {
    /// Enrolment of own clients.
    Enrol,
    /// A look-up of one resident.
    Lookup,
}

impl EvaluationPurpose {
    fn to_byte(self) -> u8 {
        match self {
            EvaluationPurpose::Enrol => 1,
            EvaluationPurpose::Lookup => 2,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(EvaluationPurpose::Enrol),
            2 => Some(EvaluationPurpose::Lookup),
            _ => None,
        }
    }
}

/// A batch of blinded elements for one holder of a quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvaluationRequest {
    /// Which key.
    pub epoch: Epoch,
    /// Which generation of its shares.
    pub generation: u32,
    /// What for.
    pub purpose: EvaluationPurpose,
    /// When it was written.
    pub issued: Timestamp,
    /// Share numbers of the holders asked, ascending.
    pub quorum: Vec<u16>,
    /// Random id; the same request repeated byte for byte is not charged twice.
    pub request_id: [u8; 16],
    /// Compressed ristretto255 points.
    pub elements: Vec<[u8; 32]>,
}

/// A holder's evaluations with its batch proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvaluationAnswer {
    /// Which key.
    pub epoch: Epoch,
    /// Which generation of its shares.
    pub generation: u32,
    /// The request's id.
    pub request_id: [u8; 16],
    /// Compressed ristretto255 points, in the request's order.
    pub elements: Vec<[u8; 32]>,
    /// RFC 9497 proof: challenge, then response.
    pub proof: [u8; 64],
}

/// Why an evaluation message was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// Not the layout.
    #[error("not an evaluation message of the expected layout")]
    Malformed,
    /// The signature does not verify.
    #[error("the evaluation message's signature does not verify")]
    BadSignature,
}

impl EvaluationRequest {
    /// The message, signed by `member`'s entry key for `holder`.
    #[must_use]
    pub fn to_bytes(&self, realm: &Realm, member: &MemberId, holder: &MemberId, key: &SigningKey) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 + 32 * self.elements.len());
        out.extend_from_slice(b"OGE1");
        out.push(SUITE_RISTRETTO255_SHA512);
        out.extend(self.epoch.0.to_be_bytes());
        out.extend(self.generation.to_be_bytes());
        out.push(self.purpose.to_byte());
        out.extend(self.issued.0.to_be_bytes());
        out.push(u8::try_from(self.quorum.len()).unwrap_or(u8::MAX));
        for id in &self.quorum {
            out.extend(id.to_be_bytes());
        }
        out.extend_from_slice(&self.request_id);
        push_elements(&mut out, &self.elements);
        let signature = key.sign(&Self::statement(realm, member, holder, &out));
        out.extend_from_slice(&signature);
        out
    }

    /// Reads a request that `member` sent to `holder`, signed with one of `keys`.
    ///
    /// # Errors
    /// [`EvaluationError`].
    pub fn from_bytes(
        bytes: &[u8],
        realm: &Realm,
        member: &MemberId,
        holder: &MemberId,
        keys: impl IntoIterator<Item = PublicKey>,
    ) -> Result<Self, EvaluationError> {
        let (body, signature) = bytes.split_last_chunk::<64>().ok_or(EvaluationError::Malformed)?;
        let message = Self::statement(realm, member, holder, body);
        if !keys.into_iter().any(|key| key.verifies(&message, signature)) {
            return Err(EvaluationError::BadSignature);
        }
        Self::parse(&mut Reader(body)).ok_or(EvaluationError::Malformed)
    }

    fn parse(reader: &mut Reader<'_>) -> Option<Self> {
        reader.literal(b"OGE1")?;
        reader.literal(&[SUITE_RISTRETTO255_SHA512])?;
        let epoch = Epoch(u32::from_be_bytes(reader.take()?));
        let generation = u32::from_be_bytes(reader.take()?);
        let [purpose] = reader.take()?;
        let issued = Timestamp(i64::from_be_bytes(reader.take()?));
        let [m] = reader.take()?;
        let quorum = (0..m).map(|_| reader.take().map(u16::from_be_bytes)).collect::<Option<_>>()?;
        let request_id = reader.take()?;
        let elements = reader.elements()?;
        reader.end()?;
        let purpose = EvaluationPurpose::from_byte(purpose)?;
        Some(EvaluationRequest { epoch, generation, purpose, issued, quorum, request_id, elements })
    }

    fn statement(realm: &Realm, member: &MemberId, holder: &MemberId, body: &[u8]) -> Vec<u8> {
        let mut out = b"ogniwo/v1/eval".to_vec();
        for text in [realm.as_str(), member.as_str(), holder.as_str()] {
            push_len8(&mut out, text);
        }
        out.extend_from_slice(body);
        out
    }
}

impl EvaluationAnswer {
    /// The message, signed by the holder's entry key as the answer to `request` (its bytes).
    #[must_use]
    pub fn to_bytes(&self, request: &[u8], key: &SigningKey) -> Vec<u8> {
        let mut out = Vec::with_capacity(192 + 32 * self.elements.len());
        out.extend_from_slice(b"OGR1");
        out.extend(self.epoch.0.to_be_bytes());
        out.extend(self.generation.to_be_bytes());
        out.extend_from_slice(&self.request_id);
        push_elements(&mut out, &self.elements);
        out.extend_from_slice(&self.proof);
        let signature = key.sign(&Self::statement(request, &out));
        out.extend_from_slice(&signature);
        out
    }

    /// Reads the answer to `request` (its bytes), signed with one of the holder's `keys`.
    ///
    /// # Errors
    /// [`EvaluationError`].
    pub fn from_bytes(
        bytes: &[u8],
        request: &[u8],
        keys: impl IntoIterator<Item = PublicKey>,
    ) -> Result<Self, EvaluationError> {
        let (body, signature) = bytes.split_last_chunk::<64>().ok_or(EvaluationError::Malformed)?;
        let message = Self::statement(request, body);
        if !keys.into_iter().any(|key| key.verifies(&message, signature)) {
            return Err(EvaluationError::BadSignature);
        }
        Self::parse(&mut Reader(body)).ok_or(EvaluationError::Malformed)
    }

    fn parse(reader: &mut Reader<'_>) -> Option<Self> {
        reader.literal(b"OGR1")?;
        let epoch = Epoch(u32::from_be_bytes(reader.take()?));
        let generation = u32::from_be_bytes(reader.take()?);
        let request_id = reader.take()?;
        let elements = reader.elements()?;
        let proof = reader.take()?;
        reader.end()?;
        Some(EvaluationAnswer { epoch, generation, request_id, elements, proof })
    }

    fn statement(request: &[u8], body: &[u8]) -> Vec<u8> {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA512);
        hash.update(request);
        hash.update(body);
        [b"ogniwo/v1/evaluated".as_slice(), hash.finish().as_ref()].concat()
    }
}

fn push_elements(out: &mut Vec<u8>, elements: &[[u8; 32]]) {
    out.extend(u16::try_from(elements.len()).unwrap_or(u16::MAX).to_be_bytes());
    for element in elements {
        out.extend_from_slice(element);
    }
}

/// Takes from the front; nothing when too short.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn literal(&mut self, expected: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(expected)?;
        Some(())
    }

    fn elements(&mut self) -> Option<Vec<[u8; 32]>> {
        let count = usize::from(u16::from_be_bytes(self.take()?));
        if count == 0 || count > MAX_ELEMENTS || self.0.len() < count * 32 {
            return None;
        }
        (0..count).map(|_| self.take()).collect()
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32]).unwrap()
    }
    fn names() -> (Realm, MemberId, MemberId) {
        ("lodz.example".parse().unwrap(), "mops".parse().unwrap(), "pup".parse().unwrap())
    }
    fn request(count: usize) -> EvaluationRequest {
        EvaluationRequest {
            epoch: Epoch(3),
            generation: 2,
            purpose: EvaluationPurpose::Lookup,
            issued: Timestamp(1_700_000_000),
            quorum: vec![1, 3],
            request_id: [9; 16],
            elements: vec![[5; 32]; count],
        }
    }

    #[test]
    fn request_and_answer_round_trip() {
        let (realm, member, holder) = names();
        let bytes = request(1000).to_bytes(&realm, &member, &holder, &key(1));
        assert_eq!(bytes.len(), 4 + 1 + 4 + 4 + 1 + 8 + 1 + 4 + 16 + 2 + 32_000 + 64);
        assert_eq!(
            EvaluationRequest::from_bytes(&bytes, &realm, &member, &holder, [key(1).public()]).unwrap(),
            request(1000)
        );
        let answer = EvaluationAnswer {
            epoch: Epoch(3),
            generation: 2,
            request_id: [9; 16],
            elements: vec![[6; 32]; 7],
            proof: [1; 64],
        };
        let answered = answer.to_bytes(&bytes, &key(2));
        assert_eq!(EvaluationAnswer::from_bytes(&answered, &bytes, [key(2).public()]).unwrap(), answer);
        assert_eq!(
            EvaluationAnswer::from_bytes(&answered, b"another request", [key(2).public()]).unwrap_err(),
            EvaluationError::BadSignature
        );
    }

    #[test]
    fn a_request_to_one_holder_is_nothing_to_another() {
        let (realm, member, holder) = names();
        let bytes = request(1).to_bytes(&realm, &member, &holder, &key(1));
        let read =
            |m: &MemberId, h: &MemberId, k: u8| EvaluationRequest::from_bytes(&bytes, &realm, m, h, [key(k).public()]);
        assert!(read(&member, &holder, 1).is_ok());
        assert_eq!(read(&member, &member, 1).unwrap_err(), EvaluationError::BadSignature);
        assert_eq!(read(&holder, &holder, 1).unwrap_err(), EvaluationError::BadSignature);
        assert_eq!(read(&member, &holder, 2).unwrap_err(), EvaluationError::BadSignature);
    }

    #[test]
    fn counts_are_bounded() {
        let (realm, member, holder) = names();
        for count in [0, MAX_ELEMENTS + 1] {
            let bytes = request(count).to_bytes(&realm, &member, &holder, &key(1));
            assert_eq!(
                EvaluationRequest::from_bytes(&bytes, &realm, &member, &holder, [key(1).public()]).unwrap_err(),
                EvaluationError::Malformed
            );
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_is_exact(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let (realm, member, holder) = names();
            let mut whole = [b"OGE1\x01".as_slice(), &bytes].concat();
            let signature = key(1).sign(&EvaluationRequest::statement(&realm, &member, &holder, &whole));
            whole.extend_from_slice(&signature);
            if let Ok(read) = EvaluationRequest::from_bytes(&whole, &realm, &member, &holder, [key(1).public()]) {
                prop_assert_eq!(read.to_bytes(&realm, &member, &holder, &key(1)), whole);
            }
        }
    }
}
