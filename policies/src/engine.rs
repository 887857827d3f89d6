//! The rules of one institution: the federation's library and the institution's own forbids.

use crate::catalogue::{Field, Mandate, Query, Template};
use crate::guard::Guard;
use crate::library::{Library, LibraryError};
use protocol::manifest::{Agreement, Manifest};
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
    /// in force. A holder counts its quota.
    ///
    /// # Errors
    /// [`Reason::AgreementMissing`], or [`Reason::AgreementExpired`] if there is one that is not in force at `now`.
    pub fn agreement_for<'m>(
        manifest: &'m Manifest,
        asker: &MemberId,
        holder: &MemberId,
        query: &QueryType,
        purpose: &Purpose,
        now: Timestamp,
    ) -> Result<&'m Agreement, Reason> {
        let covers = |a: &&Agreement| {
            &a.asker == asker && &a.holder == holder && a.queries.contains(query) && a.purposes.contains(purpose)
        };
        let mut covering = manifest.agreements.iter().filter(covers).peekable();
        let missing = if covering.peek().is_some() { Reason::AgreementExpired } else { Reason::AgreementMissing };
        covering.find(|a| a.valid_from <= now && now <= a.valid_to).ok_or(missing)
    }
}
