//! The record of what was made: the only proof that it may be changed or removed.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::host::{Host, ObserveError, read};
use crate::step::{Action, Plan};
use crate::{DesiredZone, PlanError};

/// What was made for a zone.
///
/// Written before the first thing is made, so that a run that broke off can be told from somebody
/// else's work, and removed after the last thing is gone.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Whether the zone itself is ours.
    pub zone: bool,
    /// Links and etherstubs outside the zone.
    pub links: BTreeSet<String>,
    /// Files outside the state folder.
    pub files: BTreeSet<PathBuf>,
}

impl Record {
    /// Where the record of a zone is kept.
    #[must_use]
    pub fn path(desired: &DesiredZone) -> PathBuf {
        file(desired, "json")
    }

    pub(crate) fn observe(
        desired: &DesiredZone,
        host: &mut dyn Host,
    ) -> Result<Option<Self>, ObserveError> {
        let path = Self::path(desired);
        let Some(text) = read(host, &path)? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|error| ObserveError::Unexpected {
            command: path.display().to_string(),
            detail: error.to_string(),
        })
    }

    /// Adds the writing of the record, unless it stands already.
    pub(crate) fn plan_write(&self, before: Option<&Self>, desired: &DesiredZone, plan: &mut Plan) {
        if before == Some(self) {
            return;
        }
        let mut contents =
            serde_json::to_string_pretty(self).expect("names and paths we made are UTF-8 text");
        contents.push('\n');
        plan.push(
            "record what belongs to the zone",
            Action::Write { path: Self::path(desired), contents },
        );
    }

    pub(crate) fn plan_remove(desired: &DesiredZone, plan: &mut Plan) {
        plan.push("forget the zone", Action::Remove(Self::path(desired)));
    }
}

/// A file of the zone in the state folder.
pub(crate) fn file(desired: &DesiredZone, extension: &str) -> PathBuf {
    desired.state.join("zones").join(format!("{}.{extension}", desired.name))
}

/// Refuses paths that cannot be written in text.
pub(crate) fn check_paths(desired: &DesiredZone) -> Result<(), PlanError> {
    for path in [&desired.binary, &desired.routerctl, &desired.config, &desired.state] {
        let plain =
            |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && !b"\"'<>&\\".contains(&b));
        if !path.is_absolute() || !path.to_str().is_some_and(plain) {
            return Err(PlanError::Path { path: path.clone() });
        }
    }
    Ok(())
}
