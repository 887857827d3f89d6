//! The vectors of RFC 9497 Appendix A.1.1 and A.1.2 (ristretto255-SHA512), byte for byte.

use std::collections::BTreeMap;

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;

use super::{TestRng, deal_polynomial};
use crate::group::{Elements, decode_scalar};
use crate::oprf::{Domain, Expand, Mode, finalize};
use crate::{Answer, Blinded, CombineError, Input, dleq};

const SEED: &str = "a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3";
const OPRF_KEY: &str = "5ebcea5ee37023ccb9fc2d2019f9d7737be85591ae8652ffa9ef0f4d37063b0e";
const VOPRF_KEY: &str = "e6f73f344b79b379f1a0dd37e07ff62e38d9f71345ce62ae3a9bc60b04ccd909";
const VOPRF_PUBLIC: &str = "c803e2cc6b05fc15064549b5920659ca4a77b2cca6f04f6b357009335476ad4e";
const BLIND_1: &str = "64d37aed22a27f5191de1c1d69fadb899d8862b58eb4220029e036ec4c1f6706";
const BLIND_2: &str = "222a5e897cf59db8145db8d16e597e8facb80ae7d4e26d9881aa6f61d645fc0e";
const INPUT_1: &str = "00";
const INPUT_2: &str = "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a";

struct Item {
    input: &'static str,
    blind: &'static str,
    blinded: &'static str,
    evaluated: &'static str,
    output: &'static str,
}

/// A.1.1.1 and A.1.1.2.
const OPRF: [Item; 2] = [
    Item {
        input: INPUT_1,
        blind: BLIND_1,
        blinded: "609a0ae68c15a3cf6903766461307e5c8bb2f95e7e6550e1ffa2dc99e412803c",
        evaluated: "7ec6578ae5120958eb2db1745758ff379e77cb64fe77b0b2d8cc917ea0869c7e",
        output: "527759c3d9366f277d8c6020418d96bb393ba2afb20ff90df23fb7708264e2f3\
                 ab9135e3bd69955851de4b1f9fe8a0973396719b7912ba9ee8aa7d0b5e24bcf6",
    },
    Item {
        input: INPUT_2,
        blind: BLIND_1,
        blinded: "da27ef466870f5f15296299850aa088629945a17d1f5b7f5ff043f76b3c06418",
        evaluated: "b4cbf5a4f1eeda5a63ce7b77c7d23f461db3fcab0dd28e4e17cecb5c90d02c25",
        output: "f4a74c9c592497375e796aa837e907b1a045d34306a749db9f34221f7e750cb4\
                 f2a6413a6bf6fa5e19ba6348eb673934a722a7ede2e7621306d18951e7cf2c73",
    },
];

const VOPRF_1: Item = Item {
    input: INPUT_1,
    blind: BLIND_1,
    blinded: "863f330cc1a1259ed5a5998a23acfd37fb4351a793a5b3c090b642ddc439b945",
    evaluated: "aa8fa048764d5623868679402ff6108d2521884fa138cd7f9c7669a9a014267e",
    output: "b58cfbe118e0cb94d79b5fd6a6dafb98764dff49c14e1770b566e42402da1a7d\
             a4d8527693914139caee5bd03903af43a491351d23b430948dd50cde10d32b3c",
};
const VOPRF_2: Item = Item {
    input: INPUT_2,
    blind: BLIND_1,
    blinded: "cc0b2a350101881d8a4cba4c80241d74fb7dcbfde4a61fde2f91443c2bf9ef0c",
    evaluated: "60a59a57208d48aca71e9e850d22674b611f752bed48b36f7a91b372bd7ad468",
    output: VOPRF_OUTPUT_2,
};
const VOPRF_2_IN_BATCH: Item = Item {
    input: INPUT_2,
    blind: BLIND_2,
    blinded: "90a0145ea9da29254c3a56be4fe185465ebb3bf2a1801f7124bbbadac751e654",
    evaluated: "cc5ac221950a49ceaa73c8db41b82c20372a4c8d63e5dded2db920b7eee36a2a",
    output: VOPRF_OUTPUT_2,
};
const VOPRF_OUTPUT_2: &str = "8a9a2f3c7f085b65933594309041fc1898d42d0858e59f90814ae90571a6df60\
                              356f4610bf816f27afdd84f47719e480906d27ecd994985890e5f539e7ea74b6";

struct Batch {
    items: &'static [Item],
    proof: &'static str,
    nonce: &'static str,
}

/// A.1.2.1 to A.1.2.3.
const VOPRF: [Batch; 3] = [
    Batch {
        items: &[VOPRF_1],
        proof: "ddef93772692e535d1a53903db24367355cc2cc78de93b3be5a8ffcc6985dd06\
                6d4346421d17bf5117a2a1ff0fcb2a759f58a539dfbe857a40bce4cf49ec600d",
        nonce: "222a5e897cf59db8145db8d16e597e8facb80ae7d4e26d9881aa6f61d645fc0e",
    },
    Batch {
        items: &[VOPRF_2],
        proof: "401a0da6264f8cf45bb2f5264bc31e109155600babb3cd4e5af7d181a2c9dc0a\
                67154fabf031fd936051dec80b0b6ae29c9503493dde7393b722eafdf5a50b02",
        nonce: "222a5e897cf59db8145db8d16e597e8facb80ae7d4e26d9881aa6f61d645fc0e",
    },
    Batch {
        items: &[VOPRF_1, VOPRF_2_IN_BATCH],
        proof: "cc203910175d786927eeb44ea847328047892ddf8590e723c37205cb74600b0a\
                5ab5337c8eb4ceae0494c2cf89529dcf94572ed267473d567aeed6ab873dee08",
        nonce: "419c4f4f5052c53c45f3da494d2b67b220d02118e0857cdbcf037f9ea84bbe0c",
    },
];

fn hex<const N: usize>(text: &str) -> [u8; N] {
    bytes(text).try_into().unwrap()
}

fn bytes(text: &str) -> Vec<u8> {
    assert_eq!(text.len() % 2, 0);
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn scalar(text: &str) -> Scalar {
    decode_scalar(&hex(text)).unwrap()
}

/// `DeriveKeyPair` (RFC 9497 §3.2.1) for the vectors' `KeyInfo` "test key".
fn derived_key(mode: Mode) -> Scalar {
    let info = b"test key";
    Expand::new(Domain::DeriveKeyPair, mode).to_scalar(&[&bytes(SEED), &[0, 8], info, &[0]])
}

/// Blind, evaluate, unblind and finalise as the RFC does, multiplicatively.
fn check_item(mode: Mode, key: Scalar, item: &Item) {
    let (input, blind) = (bytes(item.input), scalar(item.blind));
    let blinded = Expand::new(Domain::HashToGroup, mode).to_group(&input) * blind;
    assert_eq!(blinded.compress().to_bytes(), hex(item.blinded));
    let evaluated = blinded * key;
    assert_eq!(evaluated.compress().to_bytes(), hex(item.evaluated));
    let unblinded = (evaluated * blind.invert()).compress();
    assert_eq!(finalize(&input, unblinded.as_bytes()), hex(item.output));
}

#[test]
fn oprf_vectors() {
    assert_eq!(derived_key(Mode::Oprf), scalar(OPRF_KEY));
    for item in &OPRF {
        check_item(Mode::Oprf, scalar(OPRF_KEY), item);
    }
}

#[test]
fn voprf_vectors() {
    let key = scalar(VOPRF_KEY);
    assert_eq!(derived_key(Mode::Voprf), key);
    let public = RistrettoPoint::mul_base(&key);
    assert_eq!(public.compress().to_bytes(), hex(VOPRF_PUBLIC));
    for batch in &VOPRF {
        batch.items.iter().for_each(|item| check_item(Mode::Voprf, key, item));

        let decode = |of: fn(&Item) -> &str| {
            Elements::decode(&batch.items.iter().map(|item| hex(of(item))).collect::<Vec<_>>()).unwrap()
        };
        let (blinded, evaluated) = (decode(|item| item.blinded), decode(|item| item.evaluated));
        let proof = dleq::prove(&key, &hex(VOPRF_PUBLIC), &blinded, &evaluated.bytes, &scalar(batch.nonce));
        assert_eq!(proof, hex::<64>(batch.proof));
        assert!(dleq::verify(&public, &blinded, &evaluated, &proof));
    }
}

/// Our own path, a single holder and additive blinding, reaches the RFC's outputs; it takes the RFC's proofs as well.
#[test]
fn additive_blinding_gives_the_voprf_outputs() {
    let dealt = deal_polynomial(&[scalar(VOPRF_KEY)], &[1]);
    assert_eq!(dealt.public.group_key(), hex(VOPRF_PUBLIC));
    let mut rng = TestRng::new(1);
    for batch in &VOPRF {
        let inputs = batch.items.iter().map(|item| Input::concat(&[&bytes(item.input)])).collect();
        let blinded = Blinded::new(&dealt.public, inputs, &mut rng).unwrap();
        let answer = dealt.shares[&1].evaluate(&[1], blinded.elements(), &mut rng).unwrap();
        let outputs = blinded.verify_and_finish(&[1], &BTreeMap::from([(1, answer)])).unwrap();
        for (output, item) in outputs.iter().zip(batch.items) {
            assert_eq!(*output.as_bytes(), hex(item.output));
        }

        // The RFC's answer is for other blinded elements than ours.
        let elements = batch.items.iter().map(|item| hex(item.evaluated)).collect();
        let foreign = Answer { elements, proof: hex(batch.proof) };
        assert_eq!(blinded.verify_answer(&[1], 1, &foreign).unwrap_err(), CombineError::BadProof { holder: 1 });
    }
}
