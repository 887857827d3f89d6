//! The four units' extracts and mapping files: the shipped cut, or a directory's.

use crate::exit::Failure;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The units of the demo with their names for people and the kind of institution they are.
pub(crate) const UNITS: [(&str, &str, &str); 4] = [
    ("mops", "MOPS – pomoc społeczna", "mops"),
    ("pup", "PUP – urząd pracy", "pup"),
    ("css", "CŚS – świadczenia", "css"),
    ("zlm", "ZLM – lokale miejskie", "hou"),
];

macro_rules! shipped {
    ($unit:literal) => {
        (
            $unit,
            include_bytes!(concat!("../../../deploy/demo/", $unit, ".csv")).as_slice(),
            include_str!(concat!("../../../deploy/mappings/", $unit, ".toml")),
        )
    };
}

const SHIPPED: [(&str, &[u8], &str); 4] = [shipped!("mops"), shipped!("pup"), shipped!("css"), shipped!("zlm")];

/// Extract and mapping of each unit.
pub(crate) struct Extracts(BTreeMap<String, (PathBuf, PathBuf)>);

impl Extracts {
    /// The shipped cut, written out below `home`.
    pub(crate) fn shipped(home: &Path) -> Result<Self, Failure> {
        let dir = home.join("extracts");
        std::fs::create_dir_all(&dir)?;
        for (unit, extract, _) in SHIPPED {
            std::fs::write(dir.join(format!("{unit}.csv")), extract)?;
        }
        Self::given(&dir, home)
    }

    /// The extracts of `dir` with the shipped mappings, which are written out below `home`.
    pub(crate) fn given(dir: &Path, home: &Path) -> Result<Self, Failure> {
        let mappings = home.join("mappings");
        std::fs::create_dir_all(&mappings)?;
        let mut out = BTreeMap::new();
        for (unit, _, mapping) in SHIPPED {
            let extract = std::path::absolute(dir.join(format!("{unit}.csv")))?;
            if !extract.is_file() {
                return Err(Failure::new("extract_refused", format!("{} is missing", extract.display())));
            }
            let path = mappings.join(format!("{unit}.toml"));
            std::fs::write(&path, mapping)?;
            out.insert(unit.to_owned(), (extract, path));
        }
        Ok(Extracts(out))
    }

    /// A unit's extract.
    pub(crate) fn extract(&self, unit: &str) -> PathBuf {
        self.0.get(unit).map(|(extract, _)| extract.clone()).unwrap_or_default()
    }

    /// A unit's mapping.
    pub(crate) fn mapping(&self, unit: &str) -> PathBuf {
        self.0.get(unit).map(|(_, mapping)| mapping.clone()).unwrap_or_default()
    }

    /// Lines of a unit's extract: no fewer than its residents, for the quota of its first enrolment.
    pub(crate) fn lines(&self, unit: &str) -> Result<u64, Failure> {
        let bytes = std::fs::read(self.extract(unit))?;
        Ok(bytes.split(|b| *b == b'\n').count() as u64)
    }
}
