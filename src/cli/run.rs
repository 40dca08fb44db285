//! `orca run`: the virtual node, until it is told to stop.

use std::process::ExitCode;

use super::{Common, complain, load};
use crate::app::{self, AppOptions, End};
use crate::clock;
use crate::telemetry;

pub(super) async fn run(common: Common) -> ExitCode {
    let (config, warnings) = match load(&common) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    if let Err(error) = telemetry::init_logs(&config.logging, common.log.as_deref()) {
        complain(format_args!("{error:#}"));
        return ExitCode::from(2);
    }
    #[cfg(debug_assertions)]
    if let Err(error) = crate::failpoint::arm(common.failpoint, common.failpoint_record.as_deref()) {
        complain(format_args!("the record of failpoints: {error}"));
        return ExitCode::FAILURE;
    }
    for warning in warnings {
        tracing::warn!(key = warning.path, "{}", warning.text);
    }
    let options = AppOptions {
        kubeconfig: common.kubeconfig,
        namespace: common.namespace,
        identity: common.pod_name.filter(|name| !name.is_empty()).unwrap_or_else(identity),
    };
    clock::follow_the_wall();
    match app::run(config, options).await {
        Ok(end) => {
            if let End::Lost(lost) = &end {
                tracing::error!(code = end.code(), "leads no more, and ends to be started again: {lost}");
            }
            ExitCode::from(end.code())
        }
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A name for a process that was given none: its host's, and something that no other process there has.
fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}_{}", host.trim(), uuid::Uuid::new_v4())
}
