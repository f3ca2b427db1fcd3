//! Where things lie: the data directory and the files in it that both the daemon and its clients know.
//!
//! Knows no content of these files. Invariant: the daemon and the client commands look in the same places.

use std::{env, path::PathBuf};

/// File in the data directory with the address that the daemon listens on.
pub(crate) const ADDRESS: &str = "address";
/// File in the data directory with the address that clients of Redis are served on.
pub(crate) const RESP_ADDRESS: &str = "resp-address";
/// File in the data directory with the token of the administrator.
pub(crate) const ADMIN_TOKEN: &str = "admin.token";
/// Configuration file, in the data directory unless named.
pub(crate) const CONFIG: &str = "platform.toml";
/// Directory in the data directory that holds the storage.
pub(crate) const STORAGE: &str = "storage";
/// Directory in the data directory that holds compiled components.
pub(crate) const COMPILED: &str = "compiled";

/// Directory in the data directory with the decisions that are kept.
pub(crate) const DECISIONS: &str = "decisions";

/// Data directory unless told otherwise: `platform` where the user's data lies, by the XDG base directory specification.
pub(crate) fn default_data_dir() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/share")))?;
    Some(data.join("platform"))
}

/// Where the shipped components lie unless told otherwise: `../share/platform/plugins` or `plugins` beside the binary.
pub(crate) fn default_plugins_dir() -> Option<PathBuf> {
    let binary = env::current_exe().ok()?;
    let folder = binary.parent()?;
    let places = [folder.join("../share/platform/plugins"), folder.join("plugins")];
    places.into_iter().find(|place| place.is_dir()).map(|place| place.canonicalize().unwrap_or(place))
}
