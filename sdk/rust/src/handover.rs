//! State that goes from one generation of a plugin to the next.

use crate::Problem;

/// For plugins that keep state in memory; exported by `export!(kv::Store + Handover for MyStore, ...)`.
///
/// The host admits no call between `save` of the old instance and the switch to the new one, so nothing falls between
/// the two. The form belongs to the plugin and must be readable by its later versions; [`crate::codec`] helps.
pub trait Handover: Sized + 'static {
    /// The state, at most 64 MiB.
    ///
    /// # Errors
    /// When the state can't be handed over; the old generation then stays.
    fn save(&mut self) -> Result<Vec<u8>, Problem>;

    /// Takes over what `save` returned, after `configure` and before `self_test`.
    ///
    /// # Errors
    /// When the state can't be read; the old generation then stays.
    fn load(&mut self, state: &[u8]) -> Result<(), Problem>;
}
