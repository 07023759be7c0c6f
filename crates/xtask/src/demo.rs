//! placeholder
use anyhow::Result;
pub(crate) fn demo() -> Result<()> {
    Ok(())
}
