//! placeholder
pub fn run(_: &crate::flags::Node) -> anyhow::Result<()> { anyhow::bail!("not yet") }
