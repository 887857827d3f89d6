//! The `voprf` crate as a second implementation, on either side of the wire.

use std::collections::BTreeMap;

use curve25519_dalek::scalar::Scalar;
use voprf::{
    BlindedElement, EvaluationElement, Group, OprfClient, OprfServer, Proof, Ristretto255, VoprfClient, VoprfServer,
};

use super::{TestRng, deal, deal_polynomial, inputs, plain, quorums, run, server_secret};
use crate::dkg::Rng06;
use crate::oprf::{Domain, Expand, Mode, finalize};
use crate::{Answer, Blinded, CombineError};

type Server = VoprfServer<Ristretto255>;
type Client = VoprfClient<Ristretto255>;

fn server(key: &Scalar) -> Server {
    Server::new_with_key(key.as_bytes()).unwrap()
}

fn outputs_there(server: &Server, count: usize) -> Vec<[u8; 64]> {
    inputs(count).iter().map(|input| server.evaluate(input.as_bytes()).unwrap().into()).collect()
}

fn public(key: &Scalar) -> <Ristretto255 as Group>::Elem {
    server(key).get_public_key()
}

#[test]
fn base_mode_outputs_agree() {
    let mut rng = TestRng::new(1);
    let key = Scalar::random(&mut rng);
    let server = OprfServer::<Ristretto255>::new_with_key(key.as_bytes()).unwrap();
    for input in inputs(5) {
        let ours = Expand::new(Domain::HashToGroup, Mode::Oprf).to_group(input.as_bytes()) * key;
        let ours = finalize(input.as_bytes(), ours.compress().as_bytes());
        assert_eq!(ours, <[u8; 64]>::from(server.evaluate(input.as_bytes()).unwrap()));

        let start = OprfClient::<Ristretto255>::blind(input.as_bytes(), &mut Rng06(&mut rng)).unwrap();
        let theirs = start.state.finalize(input.as_bytes(), &server.blind_evaluate(&start.message)).unwrap();
        assert_eq!(ours, <[u8; 64]>::from(theirs));
    }
}

#[test]
fn threshold_outputs_are_its_outputs_under_the_whole_key() {
    let mut rng = TestRng::new(2);
    let dealt = deal(2, &[1, 2, 3], &mut rng);
    let server = server(&dealt.key);
    let theirs = outputs_there(&server, 4);
    assert_eq!(plain(&dealt.key, 4), theirs);
    for quorum in quorums(&[1, 2, 3], 2) {
        assert_eq!(run(&dealt.public, &dealt.shares, &quorum, 4, &mut rng), theirs);
    }
}

/// Its client takes a holder for an ordinary server with public key `λ_j·PK_j`, and for no other.
#[test]
fn its_client_accepts_our_holders() {
    let mut rng = TestRng::new(3);
    let dealt = deal(3, &[1, 2, 3, 4, 5], &mut rng);
    let quorum = [1, 2, 5];
    for holder in quorum {
        let share = &dealt.shares[&holder];
        let (inputs, clients, elements) = blind_there(4, &mut rng);
        let answer = share.evaluate(&quorum, &elements, &mut rng).unwrap();
        let messages: Vec<_> =
            answer.elements.iter().map(|it| EvaluationElement::<Ristretto255>::deserialize(it).unwrap()).collect();
        let proof = Proof::deserialize(&answer.proof).unwrap();

        let key = server_secret(share, &quorum);
        let outputs = Client::batch_finalize(&inputs, &clients, &messages, &proof, public(&key)).unwrap();
        for (output, input) in outputs.zip(&inputs) {
            assert_eq!(output.unwrap(), server(&key).evaluate(input).unwrap());
        }
        for wrong in [super::secret(share), dealt.key] {
            assert!(Client::batch_finalize(&inputs, &clients, &messages, &proof, public(&wrong)).is_err());
        }
    }
}

/// Our client takes its servers, each with key `λ_j·k_j`, for holders.
#[test]
fn our_client_accepts_its_servers() {
    let mut rng = TestRng::new(4);
    let dealt = deal(2, &[1, 2, 3], &mut rng);
    let quorum = [2, 3];
    let blinded = Blinded::new(&dealt.public, inputs(4), &mut rng).unwrap();
    let answer = |key: &Scalar, rng: &mut TestRng| {
        let elements: Vec<_> =
            blinded.elements().iter().map(|it| BlindedElement::<Ristretto255>::deserialize(it).unwrap()).collect();
        let result = server(key).batch_blind_evaluate(&mut Rng06(rng), &elements).unwrap();
        let elements = result.messages.iter().map(|it| it.serialize().into()).collect();
        Answer { elements, proof: result.proof.serialize().into() }
    };
    let mut answers: BTreeMap<u16, Answer> =
        quorum.map(|id| (id, answer(&server_secret(&dealt.shares[&id], &quorum), &mut rng))).into();
    let outputs = blinded.verify_and_finish(&quorum, &answers).unwrap();
    let outputs: Vec<_> = outputs.iter().map(|output| *output.as_bytes()).collect();
    assert_eq!(outputs, plain(&dealt.key, 4));

    answers.insert(3, answer(&dealt.key, &mut rng));
    assert_eq!(blinded.verify_and_finish(&quorum, &answers).unwrap_err(), CombineError::BadProof { holder: 3 });
}

/// One server alone is the 1-of-1 case.
#[test]
fn a_single_holder_is_a_plain_server() {
    let mut rng = TestRng::new(5);
    let key = Scalar::random(&mut rng);
    let dealt = deal_polynomial(&[key], &[7]);
    let theirs = outputs_there(&server(&key), 2);
    assert_eq!(run(&dealt.public, &dealt.shares, &[7], 2, &mut rng), theirs);
}

fn blind_there(count: usize, rng: &mut TestRng) -> (Vec<Vec<u8>>, Vec<Client>, Vec<[u8; 32]>) {
    let inputs: Vec<Vec<u8>> = inputs(count).iter().map(|input| input.as_bytes().to_vec()).collect();
    let starts: Vec<_> = inputs.iter().map(|input| Client::blind(input, &mut Rng06(&mut *rng)).unwrap()).collect();
    let elements = starts.iter().map(|start| start.message.serialize().into()).collect();
    (inputs, starts.into_iter().map(|start| start.state).collect(), elements)
}
