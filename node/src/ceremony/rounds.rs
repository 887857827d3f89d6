//! One participant's rounds: what is computed once everything a round waits for is here.

use super::{CeremonyError, Kept, OVER, Packages, record};
use crate::events::Happened;
use crate::manifests::{Held, public_key};
use crate::node::Node;
use protocol::encoding::{Bytes, b64};
use protocol::manifest::{KeyEpoch, KeyHolder, KeyUse};
use pseudonym::dkg::{self, Born, DkgError, Secret1, Secret2};
use pseudonym::reshare::{self, Dealing, Plan};
use rand_core::UnwrapErr;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// Our part of a ceremony.
pub(super) struct Part<'a> {
    pub(super) node: &'a Node,
    pub(super) held: &'a Held,
    pub(super) kept: &'a mut Kept,
    me: u16,
}

impl<'a> Part<'a> {
    pub(super) fn new(node: &'a Node, held: &'a Held, kept: &'a mut Kept) -> Result<Self, CeremonyError> {
        let me = kept.number_of(&node.config.member).ok_or(CeremonyError::Refused("we are not one of its holders"))?;
        Ok(Part { node, held, kept, me })
    }

    /// Joins: makes our package of round 1, if we publish one.
    pub(super) fn join(&mut self) -> Result<(), CeremonyError> {
        let ceremony = &self.kept.ceremony;
        let mut rng = UnwrapErr(getrandom::SysRng);
        if ceremony.publishers().contains_key(&self.me) {
            let (secret, package) = if let Some(plan) = self.plan()? {
                let generation = ceremony.generation - 1;
                let share = self.node.shares.get(ceremony.epoch, generation).ok_or(DkgError::StaleShare)?;
                let (dealing, package) = reshare::deal(&plan, &share, &mut rng)?;
                (dealing.to_bytes(), package)
            } else {
                let holders = u16::try_from(ceremony.holders.len()).map_err(|_| DkgError::Parameters)?;
                let (secret, package) = dkg::round1(self.me, holders, ceremony.threshold, &mut rng)?;
                (secret.to_bytes()?, package)
            };
            self.kept.secret = secret;
            self.send_all(1, &package);
        }
        self.kept.round = 1;
        Ok(())
    }

    /// Goes one round further if everything is here; whether it did.
    pub(super) async fn advance(&mut self) -> Result<bool, CeremonyError> {
        if !self.kept.is_running() {
            return Ok(false);
        }
        self.judge()?;
        if !self.kept.missing(&self.node.config.member).is_empty() {
            return Ok(false);
        }
        match self.kept.round {
            1 => self.compare()?,
            2 => self.share_out().await?,
            3 => self.conclude()?,
            _ => self.finish().await?,
        }
        Ok(true)
    }

    /// Ends the ceremony once one participant contradicts us, whoever has not spoken yet.
    fn judge(&self) -> Result<(), CeremonyError> {
        match (self.kept.round, &self.kept.result) {
            (2, _) => {
                let transcript = self.transcript();
                let other = self.received(2).find(|(_, seen)| ***seen != transcript.0);
                other.map_or(Ok(()), |(id, _)| Err(CeremonyError::Differs { member: self.member(*id) }))
            }
            (4, Some(epoch)) => {
                let statement = epoch.statement(&self.held.manifest.realm);
                let signed = |id: u16, signature: &[u8]| {
                    let member = self.member(id);
                    let mut keys = self.held.manifest.keys_of(&member, KeyUse::Message, epoch.not_before);
                    keys.any(|key| key.verifies(&statement, signature))
                };
                let other = self.received(4).find(|(id, signature)| !signed(**id, signature));
                other.map_or(Ok(()), |(id, _)| Err(CeremonyError::OtherResult { member: self.member(*id) }))
            }
            _ => Ok(()),
        }
    }

    fn compare(&mut self) -> Result<(), CeremonyError> {
        let packages = self.packages();
        let transcript = match self.plan()? {
            Some(plan) => plan.digest(&packages),
            None => dkg::round1_digest(&packages),
        };
        self.kept.transcript = Some(Bytes(transcript.to_vec()));
        self.send_all(2, &transcript);
        self.kept.round = 2;
        Ok(())
    }

    /// Everybody saw the same packages: that is recorded, then the secret ones may leave.
    async fn share_out(&mut self) -> Result<(), CeremonyError> {
        let transcript = self.transcript();
        record(self.node, Happened::KeyCompared, self.kept, Some(b64(&transcript.0))).await?;
        if self.kept.ceremony.publishers().contains_key(&self.me) {
            let packages = self.packages();
            let mut addressed = if let Some(plan) = self.plan()? {
                Dealing::from_bytes(&self.kept.secret)?.addressed(&plan, &packages)?
            } else {
                let (secret, addressed) = dkg::round2(Secret1::from_bytes(&self.kept.secret)?, &packages)?;
                self.kept.secret = secret.to_bytes()?;
                addressed
            };
            if let Some(own) = addressed.remove(&self.me) {
                self.kept.received.entry(3).or_default().insert(self.me, own);
            }
            self.kept.outgoing.insert(3, addressed);
        }
        self.kept.round = 3;
        Ok(())
    }

    /// Computes the result; our share is on disk before our signature says so.
    fn conclude(&mut self) -> Result<(), CeremonyError> {
        let packages = self.packages();
        let secret = self.kept.received.get(&3).cloned().unwrap_or_default();
        let ceremony = &self.kept.ceremony;
        let born = match self.plan()? {
            Some(plan) if !ceremony.holders.contains_key(&self.me) => Err(plan.public_key(&packages)?),
            Some(plan) => Ok(reshare::join(&plan, self.me, &packages, &secret)?),
            None => Ok(dkg::round3(&Secret2::from_bytes(&self.kept.secret)?, &packages, &secret)?),
        };
        let public = match born {
            Ok(Born { share, public }) => {
                if !self.node.shares.keep(ceremony.epoch, ceremony.generation, share, &self.node.sealer)? {
                    return Err(CeremonyError::Refused("another ceremony made these shares before"));
                }
                public
            }
            Err(public) => public,
        };
        let epoch = self.describe(&public);
        let signature = self.node.keys.message.sign(&epoch.statement(&self.held.manifest.realm));
        self.kept.result = Some(epoch);
        self.send_all(4, &signature);
        self.kept.round = 4;
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), CeremonyError> {
        let mut epoch = self.kept.result.clone().ok_or(DkgError::State)?;
        for (id, signature) in self.received(4) {
            epoch.signatures.insert(self.member(*id), Bytes(signature.to_vec()));
        }
        let happened = if self.kept.before.is_some() { Happened::KeyRenewed } else { Happened::KeyBorn };
        record(self.node, happened, self.kept, Some(b64(&self.transcript().0))).await?;
        self.kept.result = Some(epoch);
        self.kept.round = OVER;
        self.kept.erase();
        Ok(())
    }

    fn describe(&self, public: &pseudonym::PublicKey) -> KeyEpoch {
        let ceremony = &self.kept.ceremony;
        let holder = |(id, share): (u16, [u8; 32])| {
            let member = ceremony.holders.get(&id)?.clone();
            Some(KeyHolder { id, member, public_share: Bytes(share.to_vec()) })
        };
        KeyEpoch {
            epoch: ceremony.epoch,
            generation: ceremony.generation,
            threshold: ceremony.threshold,
            group_key: Bytes(public.group_key().to_vec()),
            holders: public.shares().filter_map(holder).collect(),
            transcript: self.transcript(),
            not_before: ceremony.not_before,
            destroy_at: None,
            signatures: BTreeMap::new(),
        }
    }

    /// The plan of new shares, if the key is there already.
    fn plan(&self) -> Result<Option<Plan>, CeremonyError> {
        let Some(before) = &self.kept.before else { return Ok(None) };
        let key = public_key(before).ok_or(DkgError::Unusable)?;
        let dealers: Vec<u16> = self.kept.ceremony.dealers.keys().copied().collect();
        let holders: Vec<u16> = self.kept.ceremony.holders.keys().copied().collect();
        Ok(Some(Plan::new(&key, &dealers, &holders)?))
    }

    /// Keeps `bytes` as our own of `round`, to be sent to all others.
    fn send_all(&mut self, round: u8, bytes: &[u8]) {
        let bytes = Zeroizing::new(bytes.to_vec());
        let others = self.kept.others(&self.node.config.member);
        self.kept.outgoing.insert(round, others.into_keys().map(|id| (id, bytes.clone())).collect());
        self.kept.received.entry(round).or_default().insert(self.me, bytes);
    }

    fn received(&self, round: u8) -> impl Iterator<Item = (&u16, &Zeroizing<Vec<u8>>)> {
        self.kept.received.get(&round).into_iter().flatten()
    }

    /// What was published in round 1.
    fn packages(&self) -> BTreeMap<u16, Vec<u8>> {
        let published: Option<&Packages> = self.kept.received.get(&1);
        published.into_iter().flatten().map(|(id, package)| (*id, package.to_vec())).collect()
    }

    fn transcript(&self) -> Bytes {
        self.kept.transcript.clone().unwrap_or_default()
    }

    fn member(&self, id: u16) -> protocol::MemberId {
        self.kept.ceremony.participants().remove(&id).unwrap_or_else(|| self.node.config.member.clone())
    }
}
