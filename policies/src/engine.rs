//! The rules of one institution: the federation's library and the institution's own forbids.

use crate::catalogue::{Field, Mandate, Query};
use crate::guard::Guard;
use crate::library::{Library, LibraryError};
use crate::template::Template;
use protocol::agreement::{Agreement, AgreementRef};
use protocol::manifest::Manifest;
use protocol::{FieldId, MemberId, MemberKind, Purpose, QueryType, Reason, Role, Timestamp};

/// Decides requests, and says to the asking side what may be asked.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) library: Library,
    pub(crate) guard: Guard,
}

impl Engine {
    /// An engine by `library`, narrowed by `local` policies, each given as (file name, Cedar text).
    ///
    /// # Errors
    /// A local policy that permits, does not validate strictly against the schema, has no id, or names what the
    /// library does not have.
    pub fn new(library: Library, local: &[(String, String)]) -> Result<Self, LibraryError> {
        let guard = local
            .iter()
            .try_fold(library.guard.clone(), |guard, (file, text)| guard.with_local(file, text, &library.catalogue))?;
        Ok(Engine { library, guard })
    }

    /// An engine by `library` alone.
    pub(crate) fn federation(library: Library) -> Self {
        let guard = library.guard.clone();
        Engine { library, guard }
    }

    pub(crate) fn into_library(self) -> Library {
        self.library
    }

    /// The library.
    #[must_use]
    pub fn library(&self) -> &Library {
        &self.library
    }

    /// A query type.
    #[must_use]
    pub fn query(&self, id: &QueryType) -> Option<&Query> {
        self.library.catalogue.queries.get(id)
    }

    /// A field.
    #[must_use]
    pub fn field(&self, id: &FieldId) -> Option<&Field> {
        self.library.catalogue.fields.get(id)
    }

    /// A mandate.
    #[must_use]
    pub fn mandate(&self, id: &str) -> Option<&Mandate> {
        self.library.catalogue.mandates.get(id)
    }

    /// The current version of a consent template.
    #[must_use]
    pub fn template(&self, id: &str) -> Option<&Template> {
        self.library.catalogue.templates.get(id)?.last()
    }

    /// The query type `id`, if an institution of kind `asker` may ask it through a user in `role`.
    ///
    /// # Errors
    /// [`Reason::QueryUnknown`] or [`Reason::RoleNotAllowed`].
    pub fn askable(&self, id: &QueryType, asker: &MemberKind, role: &Role) -> Result<&Query, Reason> {
        let query = self.query(id).filter(|query| query.asker_kinds.contains(asker)).ok_or(Reason::QueryUnknown)?;
        if query.roles.contains(role) { Ok(query) } else { Err(Reason::RoleNotAllowed) }
    }

    /// The agreement under which `asker` may put `query` to `holder` for `purpose` at `now`: the first of the manifest
    /// in force and not among `revoked`. A holder counts its quotas.
    ///
    /// # Errors
    /// [`Reason::AgreementMissing`]; [`Reason::AgreementExpired`] or [`Reason::AgreementRevoked`] if there is one that
    /// does not serve at `now`.
    pub fn agreement_for<'m>(
        manifest: &'m Manifest,
        revoked: &[AgreementRef],
        asker: &MemberId,
        holder: &MemberId,
        query: &QueryType,
        purpose: &Purpose,
        now: Timestamp,
    ) -> Result<&'m Agreement, Reason> {
        let mut missing = Reason::AgreementMissing;
        for signed in &manifest.agreements {
            let terms = &signed.terms;
            let covers = &terms.asker == asker
                && &terms.holder == holder
                && terms.queries.contains(query)
                && terms.purposes.contains(purpose);
            if !covers {
                continue;
            }
            let also_revoked = revoked.iter().any(|gone| gone.id == terms.id && gone.version == terms.version);
            if signed.revocation.is_some() || also_revoked {
                missing = Reason::AgreementRevoked;
            } else if signed.in_force(now) {
                return Ok(terms);
            } else {
                missing = Reason::AgreementExpired;
            }
        }
        Err(missing)
    }
}
