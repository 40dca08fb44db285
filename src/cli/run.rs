//! `orca run`: the virtual node, until it is told to stop.

use std::process::ExitCode;

use super::{Common, complain, load};
use crate::app::{self, AppOptions};
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
    for warning in warnings {
        tracing::warn!(key = warning.path, "{}", warning.text);
    }
    let options = AppOptions { kubeconfig: common.kubeconfig, namespace: common.namespace };
    clock::follow_the_wall();
    match app::run(config, options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
