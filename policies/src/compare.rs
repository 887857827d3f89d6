//! What a library permits beyond an earlier one, by their data: who may ask whom for what, on which basis. What its Cedar
//! policies permit beyond is proved beside this (`proofs/`).
//!
//! Everything the catalogue lets anybody ask is listed, one tuple a field, with the limits it has. A tuple that is new, or has
//! a wider limit, is a counterexample to "permits no more".

use crate::bundle::{BUNDLE, Bundle};
use crate::catalogue::{Catalogue, Query, Tier};
use crate::library::{Library, LibraryError, read, released_catalogue, table};
use crate::template::Template;
use protocol::agreement::AnswerMode;
use protocol::encoding::sha256;
use protocol::{FieldId, MemberKind, Purpose, QueryType, Role};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

/// A library that was released: read, not run. It may be older than some of what a library has today.
#[derive(Clone, Debug)]
pub struct Released {
    bundle: Bundle,
    digest: [u8; 32],
    catalogue: Catalogue,
}

impl Released {
    /// The library in `directory`, by its table of contents.
    ///
    /// # Errors
    /// A file that cannot be read, or is not the one its `bundle.toml` names.
    pub fn load(directory: &Path) -> Result<Self, LibraryError> {
        let files = read(directory)?;
        let bundle: Bundle = table(&files, BUNDLE)?;
        bundle.check(&files)?;
        let digest = sha256(&[files.get(BUNDLE).map_or(&[][..], String::as_bytes)]);
        Ok(Released { bundle, digest, catalogue: released_catalogue(&files)? })
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.bundle.version
    }
}

impl From<&Library> for Released {
    fn from(library: &Library) -> Self {
        Released { bundle: library.bundle().clone(), digest: library.digest(), catalogue: library.catalogue().clone() }
    }
}

/// Why a library may not follow the one released.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Its version goes back, or is that of another content.
    #[error("version {next} cannot follow the released {released}: another content is a new, higher version")]
    Version {
        /// Its own.
        next: u32,
        /// The released one's.
        released: u32,
    },
    /// A text residents consented to would permit more.
    #[error("what residents consented to would permit more: {0}; a wider text is a new version of the template")]
    Consent(Box<Allowed>),
    /// It permits more, and its `bundle.toml` does not say so.
    #[error("it permits {count} more than version {released} without saying so (`permits_more`), for one: {first}")]
    More {
        /// The released version.
        released: u32,
        /// How many.
        count: usize,
        /// The first.
        first: Box<Beyond>,
    },
}

/// Something a library lets one institution ask another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Allowed {
    /// The query type.
    pub query: QueryType,
    /// Kind of the institution that asks.
    pub asker: MemberKind,
    /// Kind of the institution that answers.
    pub holder: MemberKind,
    /// The user's role.
    pub role: Role,
    /// What for.
    pub purpose: Purpose,
    /// On which basis: a mandate, a module of a template's version, or a reason of an emergency.
    pub basis: String,
    /// Which field; none for a presence query.
    pub field: Option<FieldId>,
}

/// What one library permits and another does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Beyond {
    /// What.
    pub allowed: Allowed,
    /// The limit that is wider, if the other permits it within a narrower one.
    pub wider: Option<&'static str>,
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Allowed { query, asker, holder, role, purpose, basis, field } = self;
        let field = field.as_ref().map_or("presence", FieldId::as_str);
        write!(f, "{query}, {field}: {asker} asks {holder} in the role {role}, for {purpose}, on {basis}")
    }
}

impl fmt::Display for Beyond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wider = self.wider.map(|limit| format!(" ({limit})")).unwrap_or_default();
        write!(f, "{}{wider}", self.allowed)
    }
}

impl Library {
    /// Everything this library permits beyond `released`.
    #[must_use]
    pub fn beyond(&self, released: &Released) -> Vec<Beyond> {
        let before = allowed(&released.catalogue);
        let added = allowed(self.catalogue()).into_iter().filter_map(|(allowed, limits)| {
            let wider = match before.get(&allowed) {
                None => None,
                Some(old) => Some(limits.wider_than(old)?),
            };
            Some(Beyond { allowed, wider })
        });
        added.collect()
    }

    /// Whether this library may follow `released`: a higher version that permits no more, or says that it does. What
    /// residents consented to never permits more, whatever it says.
    ///
    /// # Errors
    /// [`Unfit`], with the first counterexample.
    pub fn may_follow(&self, released: &Released) -> Result<(), Unfit> {
        let (next, last) = (self.bundle().version, released.version());
        if next < last || (next == last && self.digest() != released.digest) {
            return Err(Unfit::Version { next, released: last });
        }
        let beyond = self.beyond(released);
        let texts = standing(&released.catalogue);
        let known: BTreeSet<_> = texts.iter().map(|text| &text.basis).collect();
        let widened =
            standing(self.catalogue()).into_iter().find(|text| known.contains(&text.basis) && !texts.contains(text));
        if let Some(text) = widened {
            let example = beyond.iter().find(|more| {
                let allowed = &more.allowed;
                allowed.basis == text.basis && allowed.query == text.query && allowed.field == text.field
            });
            if let Some(example) = example {
                return Err(Unfit::Consent(Box::new(example.allowed.clone())));
            }
        }
        let said = self.bundle().changes.iter().any(|change| change.version > last && change.permits_more);
        match beyond.first() {
            Some(first) if !said => {
                Err(Unfit::More { released: last, count: beyond.len(), first: Box::new(first.clone()) })
            }
            _ => Ok(()),
        }
    }
}

/// What is narrower the less it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Limits([(&'static str, i64); 10]);

impl Limits {
    fn of(query: &Query) -> Self {
        Limits([
            ("tier", query.tier as i64),
            ("no person decides", i64::from(query.mode == AnswerMode::Automatic)),
            ("guesses", query.guesses.map_or(i64::MAX, i64::from)),
            ("tolerance", query.tolerance),
            ("delete_after_days", i64::from(query.delete_after_days)),
            ("no case needed", 1),
            ("in force from", i64::MAX),
            ("in force until", i64::MAX),
            ("how long", i64::MAX),
            ("how often or reviewed when", i64::MAX),
        ])
    }

    fn set(mut self, name: &str, value: i64) -> Self {
        self.0.iter_mut().filter(|(known, _)| *known == name).for_each(|(_, limit)| *limit = value);
        self
    }

    fn wider_than(&self, other: &Limits) -> Option<&'static str> {
        self.0.iter().zip(&other.0).find(|((_, ours), (_, theirs))| ours > theirs).map(|((name, _), _)| *name)
    }
}

/// One basis of a query, with what it is limited to.
struct Ground<'a> {
    basis: String,
    askers: Option<&'a BTreeSet<MemberKind>>,
    holders: BTreeSet<&'a MemberKind>,
    purposes: &'a BTreeSet<Purpose>,
    fields: &'a BTreeSet<FieldId>,
    limits: Limits,
}

fn allowed(catalogue: &Catalogue) -> BTreeMap<Allowed, Limits> {
    let mut out = BTreeMap::new();
    for (id, query) in &catalogue.queries {
        for ground in grounds(catalogue, id, query) {
            let open = |field: &&FieldId| {
                ground.fields.contains(*field) && catalogue.fields.get(*field).is_some_and(|field| !field.sealed)
            };
            let fields: Vec<_> = match query.tier {
                Tier::Presence => vec![None],
                Tier::Verify | Tier::Share => query.fields.iter().filter(open).cloned().map(Some).collect(),
            };
            let askers = query.asker_kinds.iter().filter(|kind| ground.askers.is_none_or(|known| known.contains(kind)));
            for asker in askers {
                for holder in query.holder_kinds.iter().filter(|kind| ground.holders.contains(kind)) {
                    for (role, purpose) in
                        query.roles.iter().flat_map(|role| ground.purposes.iter().map(move |p| (role, p)))
                    {
                        for field in &fields {
                            let allowed = Allowed {
                                query: id.clone(),
                                asker: asker.clone(),
                                holder: holder.clone(),
                                role: role.clone(),
                                purpose: purpose.clone(),
                                basis: ground.basis.clone(),
                                field: field.clone(),
                            };
                            out.insert(allowed, ground.limits.clone());
                        }
                    }
                }
            }
        }
    }
    out
}

fn grounds<'a>(catalogue: &'a Catalogue, id: &QueryType, query: &Query) -> Vec<Ground<'a>> {
    use crate::catalogue::BasisKind::{Consent, Emergency, Mandate};
    let mut out = Vec::new();
    let carried = catalogue.mandates.iter().filter(|(_, mandate)| mandate.max_tier >= query.tier);
    for (name, mandate) in carried.filter(|_| query.bases.contains(&Mandate)) {
        out.push(Ground {
            basis: format!("mandate {name}"),
            askers: Some(&mandate.asker_kinds),
            holders: mandate.holder_kinds.iter().collect(),
            purposes: &mandate.purposes,
            fields: &mandate.fields,
            limits: Limits::of(query)
                .set("no case needed", i64::from(mandate.requires.is_empty()))
                .set("in force from", -mandate.valid_from.0)
                .set("in force until", mandate.valid_to.map_or(i64::MAX, |end| end.0)),
        });
    }
    let versions = catalogue.templates.iter().flat_map(|(name, all)| all.iter().map(move |one| (name, one)));
    for (name, template) in versions.filter(|_| query.bases.contains(&Consent)) {
        for (module, about) in &template.modules {
            for permission in about.permissions.iter().filter(|permission| &permission.query == id) {
                out.push(Ground {
                    basis: consent(name, template, module),
                    askers: None,
                    holders: BTreeSet::from([&permission.holder_kind]),
                    purposes: &template.purposes,
                    fields: &permission.fields,
                    limits: Limits::of(query)
                        .set("in force until", template.valid_to.map_or(i64::MAX, |end| end.0))
                        .set("how long", i64::from(template.max_days)),
                });
            }
        }
    }
    for emergency in catalogue.emergencies.values().filter(|_| query.bases.contains(&Emergency)) {
        for reason in emergency.reasons.keys() {
            out.push(Ground {
                basis: format!("emergency {reason}"),
                askers: Some(&emergency.asker_kinds),
                holders: emergency.holder_kinds.iter().collect(),
                purposes: &emergency.purposes,
                fields: &emergency.fields,
                limits: Limits::of(query).set("how long", i64::from(emergency.minutes)).set(
                    "how often or reviewed when",
                    i64::from(emergency.per_member_per_day.max(emergency.review_days)),
                ),
            });
        }
    }
    out
}

fn consent(name: &str, template: &Template, module: &str) -> String {
    format!("consent {name}@{}, {module}", template.version)
}

/// What a module of a template's version permits, whoever asks.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Text {
    basis: String,
    query: QueryType,
    holder: MemberKind,
    purpose: Purpose,
    field: Option<FieldId>,
}

fn standing(catalogue: &Catalogue) -> BTreeSet<Text> {
    let of = |(allowed, _): (Allowed, Limits)| {
        let Allowed { query, holder, purpose, basis, field, .. } = allowed;
        basis.starts_with("consent ").then_some(Text { basis, query, holder, purpose, field })
    };
    allowed(catalogue).into_iter().filter_map(of).collect()
}
