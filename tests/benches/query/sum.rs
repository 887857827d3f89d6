//! The parts that no implementation of a query can do without, each measured by itself on one thread, with
//! libraries alone: none of the product's code runs here. What they work on has the product's sizes.

use crate::support::each;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityUid, PolicySet, Request, RestrictedExpression, Schema,
};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

const SCHEMA: &str = include_str!("../../../policies/library/schema.cedarschema");
const POLICIES: &str = include_str!("../../../policies/library/federation.cedar");

/// A signed message, taken apart.
pub(crate) struct Signed {
    message: Vec<u8>,
    signature: [u8; 64],
    key: [u8; 32],
}

impl Signed {
    /// The signing input and signature of a compact JWS.
    pub(crate) fn of(token: &str, key: [u8; 32]) -> Self {
        let (message, signature) = token.rsplit_once('.').expect("a JWS");
        let signature = protocol::encoding::unb64(signature).expect("a signature");
        let signed = Signed { message: message.as_bytes().to_vec(), signature, key };
        assert!(signed.holds_by_aws_lc() && signed.holds_by_ring());
        signed
    }

    fn holds_by_aws_lc(&self) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.key).verify(&self.message, &self.signature).is_ok()
    }

    fn holds_by_ring(&self) -> bool {
        let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, &self.key);
        key.verify(&self.message, &self.signature).is_ok()
    }
}

/// What is measured.
pub(crate) struct Parts {
    pub(crate) request: Signed,
    pub(crate) ticket: Signed,
    pub(crate) grant: Signed,
    /// Bytes of the signed part of an answer.
    pub(crate) answer: Vec<u8>,
    pub(crate) cedar: Cedar,
}

/// Processor time of each part.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) verify: [Duration; 3],
    pub(crate) verify_ring: [Duration; 3],
    pub(crate) sign: Duration,
    pub(crate) sign_ring: Duration,
    pub(crate) cedar: Duration,
    pub(crate) cedar_with_request: Duration,
}

impl Cost {
    /// Three verifications by the faster library, one signature, one evaluation of a request that is there already.
    pub(crate) fn sum(&self) -> Duration {
        let three = |times: &[Duration; 3]| times.iter().sum::<Duration>();
        three(&self.verify).min(three(&self.verify_ring)) + self.sign + self.cedar
    }
}

impl Parts {
    pub(crate) fn measure(&self, times: u32) -> Cost {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).expect("a key");
        let by_ring = ring::signature::Ed25519KeyPair::from_seed_unchecked(&[1; 32]).expect("a key");
        assert_eq!(pair.sign(&self.answer).as_ref(), by_ring.sign(&self.answer).as_ref());
        let signed = [&self.request, &self.ticket, &self.grant];
        Cost {
            verify: signed.map(|signed| each(times, || signed.holds_by_aws_lc())),
            verify_ring: signed.map(|signed| each(times, || signed.holds_by_ring())),
            sign: each(times, || pair.sign(&self.answer)),
            sign_ring: each(times, || by_ring.sign(&self.answer)),
            cedar: each(times, || self.cedar.evaluate()),
            cedar_with_request: each(times, || self.cedar.evaluate_new()),
        }
    }
}

/// The shipped policies over the entities of the query asked.
pub(crate) struct Cedar {
    authorizer: Authorizer,
    policies: PolicySet,
    entities: Entities,
    request: Request,
    fields: Vec<String>,
}

impl Cedar {
    /// `fields` are those of q02, `sealed` those that never leave.
    pub(crate) fn new(fields: &[String], sealed: &[String]) -> Self {
        let (schema, _warnings) = Schema::from_cedarschema_str(SCHEMA).expect("a schema");
        let attributes = HashMap::from([
            ("tier".to_owned(), RestrictedExpression::new_entity_uid(uid("Tier", "share"))),
            ("fields".to_owned(), set(fields)),
            ("sealed".to_owned(), set(sealed)),
            ("emergency".to_owned(), set(&[])),
        ]);
        let query = Entity::new(uid("Query", "q02"), attributes, HashSet::new()).expect("an entity");
        let cedar = Cedar {
            authorizer: Authorizer::new(),
            policies: POLICIES.parse().expect("policies"),
            entities: Entities::from_entities([query], Some(&schema)).expect("entities"),
            request: request(fields),
            fields: fields.to_vec(),
        };
        assert!(cedar.evaluate() && cedar.evaluate_new(), "a question that is permitted");
        cedar
    }

    fn evaluate(&self) -> bool {
        let response = self.authorizer.is_authorized(&self.request, &self.policies, &self.entities);
        response.decision() == Decision::Allow
    }

    fn evaluate_new(&self) -> bool {
        let response = self.authorizer.is_authorized(&request(&self.fields), &self.policies, &self.entities);
        response.decision() == Decision::Allow
    }
}

fn request(fields: &[String]) -> Request {
    let entity = |of: &str, id: &str| RestrictedExpression::new_entity_uid(uid(of, id));
    let context = Context::from_pairs([
        ("asker_kind".to_owned(), entity("Kind", "mops")),
        ("role".to_owned(), entity("Role", "caseworker")),
        ("purpose".to_owned(), entity("Purpose", tests::PURPOSE)),
        ("basis".to_owned(), entity("Basis", "consent")),
        ("case".to_owned(), RestrictedExpression::new_bool(true)),
        ("fields".to_owned(), set(fields)),
        ("values".to_owned(), set(fields)),
    ]);
    let (asker, action, query) = (uid("Member", "mops"), uid("Action", "share"), uid("Query", "q02"));
    Request::new(asker, action, query, context.expect("a context"), None).expect("a request")
}

fn set(fields: &[String]) -> RestrictedExpression {
    RestrictedExpression::new_set(fields.iter().map(|id| RestrictedExpression::new_entity_uid(uid("Field", id))))
}

fn uid(of: &str, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(of.parse().expect("a type"), cedar_policy::EntityId::new(id))
}
