//! `platform server`: the daemon from its first instruction to its exit code.
//!
//! Owns the order of things: configure, assemble, wait for a signal, drain. What the parts do is theirs. Invariant: it ends
//! with 0 only when everything that was acknowledged is stored and every call was answered or had its time.

mod assemble;
mod configuration;
mod data_dir;
mod defaults;
mod failure;
mod logging;
mod reload;
mod signals;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use tokio::runtime;

use self::{
    assemble::Daemon,
    configuration::Configuration,
    failure::StartError,
    reload::Reload,
    signals::{Asked, Signals},
};
use crate::{allocator, cli::Global, settings::LogFormat};

/// Exit code of a daemon that was told twice to stop.
const IMPATIENCE: u8 = 130;
/// Wait for threads that still run when all is done, such as a compilation nobody waits for.
const LEFTOVERS: Duration = Duration::from_millis(500);

/// Arguments of the command.
#[derive(Debug, Clone, Default, Args)]
#[command(
    after_help = "Examples:\n  platform server\n  platform server --data-dir /var/lib/platform --server-address 127.0.0.1:8080\n\n\
    Exit codes:\n  0    stopped in order\n  1    something that has to be there is not\n  2    the command line or the configuration is \
    wrong\n  3    the address can't be listened on\n  4    the data directory can't be used\n  130  a second signal came while calls \
    were still finishing"
)]
pub(crate) struct Arguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, env = "PLATFORM_SERVER_ADDRESS", value_name = "HOST:PORT")]
    pub(crate) server_address: Option<String>,
    /// Where to serve clients of Redis; port 0 takes a free one. Nowhere when not given.
    #[arg(long, env = "PLATFORM_RESP_ADDRESS", value_name = "HOST:PORT")]
    pub(crate) resp_address: Option<String>,
    /// Certificate of that port, PEM, which then speaks TLS only.
    #[arg(long, env = "PLATFORM_RESP_TLS_CERTIFICATE_FILE", value_name = "FILE")]
    pub(crate) resp_tls_certificate_file: Option<PathBuf>,
    /// Key of the certificate, PEM.
    #[arg(long, env = "PLATFORM_RESP_TLS_KEY_FILE", value_name = "FILE")]
    pub(crate) resp_tls_key_file: Option<PathBuf>,
    /// Where state is kept: `embedded` in the data directory, `memory` or `nats://HOST:PORT[,HOST:PORT...]`.
    #[arg(long, env = "PLATFORM_STORAGE", value_name = "STORAGE")]
    pub(crate) storage: Option<String>,
    /// Certificates of authorities, PEM, that connections to servers trust besides those of the machine; may be given again.
    #[arg(long, env = "PLATFORM_TLS_CA_FILE", value_name = "FILE", value_delimiter = ',')]
    pub(crate) tls_ca_file: Vec<PathBuf>,
    /// The configuration; `platform.toml` in the data directory when it is there.
    #[arg(long, env = "PLATFORM_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The shipped components; `../share/platform/plugins` or `plugins` beside the binary when it is there.
    #[arg(long, env = "PLATFORM_PLUGINS_DIR", value_name = "DIR")]
    pub(crate) plugins_dir: Option<PathBuf>,
    /// Which events are logged, such as `info` or `warn,platform_control=debug`.
    #[arg(long, env = "PLATFORM_LOG", value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// How log lines look.
    #[arg(long, env = "PLATFORM_LOG_FORMAT", value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
}

/// Runs the daemon; its exit code.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> ExitCode {
    match serve(global, arguments) {
        Ok(exit) => exit,
        Err(error) => {
            crate::cli::complain(&format!("error: {error}"));
            error.exit_code()
        }
    }
}

fn serve(global: &Global, arguments: &Arguments) -> Result<ExitCode, StartError> {
    allocator::settle();
    let configuration = Configuration::gather(global, arguments)?;
    logging::start(&configuration.settings.log)?;
    let runtime = runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| StartError::Other(format!("the system gives no threads: {error}")))?;
    let ended = runtime.block_on(async {
        let mut signals =
            Signals::take().map_err(|error| StartError::Other(format!("the system gives no signals: {error}")))?;
        let daemon = tokio::select! {
            daemon = Box::pin(Daemon::assemble(&configuration)) => daemon?,
            () = signals.stop() => return Ok(ExitCode::SUCCESS),
        };
        until_stopped(&daemon, &configuration, &mut signals).await;
        tokio::select! {
            () = daemon.drain() => Ok(ExitCode::SUCCESS),
            () = signals.stop() => {
                tracing::warn!("told to stop a second time: ending at once");
                Ok(ExitCode::from(IMPATIENCE))
            }
        }
    });
    runtime.shutdown_timeout(LEFTOVERS);
    ended
}

/// Serves until told to stop; applies the configuration whenever it changes or a SIGHUP asks for it.
async fn until_stopped(daemon: &Daemon, configuration: &Configuration, signals: &mut Signals) {
    let mut reload = Reload::new(configuration);
    loop {
        tokio::select! {
            asked = signals.next() => if asked == Asked::Stop {
                return;
            },
            () = reload.changed() => {}
        }
        // A SIGHUP that comes meanwhile is not lost: what it is about is a changed file, which shows in the next look.
        tokio::select! {
            () = reload.apply(daemon) => {}
            () = signals.stop() => return,
        }
    }
}
