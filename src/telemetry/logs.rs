//! The log: `text` for people, `json` for machines, one filter.

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Logging};

/// Installs the log for the whole process. `filter` (from `RUST_LOG`) overrides `logging.level`.
///
/// # Errors
/// When the filter does not parse, or a log is installed already.
pub fn init(logging: &Logging, filter: Option<&str>) -> anyhow::Result<()> {
    let directives = filter.filter(|filter| !filter.is_empty()).unwrap_or(&logging.level);
    let filter = EnvFilter::builder().parse(directives).with_context(|| {
        format!("the log filter is `{directives}`, expected a level or `target=level` pairs")
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = match logging.format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    installed.map_err(|error| anyhow::anyhow!("installing the log: {error}"))
}
