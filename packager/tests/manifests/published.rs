//! The published schema of ISO/IEC 23009-1, where the environment names a copy of it: its licence does not let it be
//! part of this repository.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const VARIABLE: &str = "HEADWATER_DASH_SCHEMA";
/// What xmllint leaves with when a document is not valid.
const INVALID: i32 = 3;
/// An MPD without what every MPD must have.
const EMPTY_MPD: &str = "<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\"/>";

/// A schema that xmllint reads and that tells a right MPD from a wrong one.
pub struct Schema {
    path: PathBuf,
}

impl Schema {
    /// The schema that the environment names. Without one, or without xmllint, says so and gives `None`; one that can
    /// not be used is a failure, for it was asked for.
    pub fn from_environment() -> Option<Schema> {
        let Some(path) = env::var_os(VARIABLE).filter(|path| !path.is_empty()) else {
            eprintln!(
                "SKIPPED: no MPD is held against the published schema. {VARIABLE}=…/DASH-MPD.xsd names a copy of it, \
                 with the schemas it imports beside it or in an XML catalog; xmllint is in libxml2-utils"
            );
            return None;
        };
        let version = Command::new("xmllint").arg("--version").output();
        if version.is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            eprintln!("SKIPPED: {VARIABLE} is set, but there is no xmllint (Debian: libxml2-utils)");
            return None;
        }
        let schema = Schema { path: path.into() };
        assert!(
            schema.path.is_file(),
            "{VARIABLE} names no file: {}",
            schema.path.display()
        );
        let (_, output) = schema.lint(&[("empty.mpd".into(), EMPTY_MPD.into())]);
        let said = String::from_utf8_lossy(&output.stderr);
        let right = output.status.code() == Some(INVALID) && said.contains("profiles");
        assert!(right, "{} is no schema of MPDs: {said}", schema.path.display());
        Some(schema)
    }

    /// Every MPD, each with a file name of its own, is valid.
    pub fn check(&self, mpds: &[(String, String)]) {
        let (folder, output) = self.lint(mpds);
        let said = String::from_utf8_lossy(&output.stderr);
        let faults: Vec<_> = said.lines().filter(|line| !line.ends_with(" validates")).collect();
        assert!(
            output.status.success(),
            "in {}:\n{}",
            folder.display(),
            faults.join("\n")
        );
        let valid = said.lines().count() - faults.len();
        assert_eq!(valid, mpds.len(), "{said}");
        eprintln!("{valid} MPDs are valid by {}", self.path.display());
    }

    /// The MPDs are left in the folder, to be looked at.
    fn lint(&self, mpds: &[(String, String)]) -> (PathBuf, Output) {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("published-schema");
        fs::create_dir_all(&folder).unwrap();
        let mut command = Command::new("xmllint");
        command.args(["--nonet", "--noout", "--schema"]).arg(&self.path);
        for (name, mpd) in mpds {
            let path = folder.join(name);
            fs::write(&path, mpd).unwrap();
            command.arg(path);
        }
        let output = command.output().unwrap();
        (folder, output)
    }
}
