//! Our own side of a benchmark: the two release movers, started as a shell starts them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use volsync_contract::{Event, Method, Report, RsyncDestination, RsyncSource, Task};
use volsync_testing::keys::KeySecrets;
use volsync_testing::proxy::Proxy;
use volsync_testing::{Privilege, Scratch};

use super::measure::{self, Measured, MemoryWatch};

const MOVER: &str = "volsync-mover-rsync";

/// Syncs `source` to `destination` once, through a slow proxy when there is a delay.
pub(crate) fn sync(
    movers: &Path,
    source: &Path,
    destination: &Path,
    delay: Option<Duration>,
    watch_memory: bool,
) -> Result<Measured> {
    let scratch = Scratch::new();
    let keys = KeySecrets::new(Privilege::own());
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let receiving = Method::RsyncDestination(RsyncDestination { keys: keys.destination(), listen });
    let mut destination = start(movers, &scratch, "destination", destination, receiving)?;
    let Some(address) = listening(&mut destination) else {
        let log = log(&scratch, "destination");
        let _ = destination.kill();
        let _ = destination.wait();
        bail!("the destination does not listen:\n{log}");
    };
    let proxy = delay.map(|delay| Proxy::start(address, delay));
    let address = proxy.as_ref().map_or(address, Proxy::address);

    let sending = Method::RsyncSource(RsyncSource {
        keys: keys.source(),
        address: address.ip().to_string(),
        port: address.port(),
    });
    let begin = Instant::now();
    let source = start(movers, &scratch, "source", source, sending)?;
    let watch = watch_memory.then(|| MemoryWatch::start(MOVER, source.id(), destination.id()));
    let source = measure::wait(source)?;
    if !source.status.success() {
        let _ = destination.kill();
        let _ = destination.wait();
        bail!("the source ended with {}:\n{}", source.status, log(&scratch, "source"));
    }
    let destination = measure::wait(destination)?;
    let peaks = watch.map(MemoryWatch::finish);
    if !destination.status.success() {
        bail!(
            "the destination ended with {}:\n{}",
            destination.status,
            log(&scratch, "destination")
        );
    }
    let report =
        fs::read_to_string(scratch.join("source.report")).context("the source wrote no report")?;
    let counts = Report::from_json(&report).context("the source's report cannot be read")?.counts;
    Ok(Measured {
        // The destination flushes before it ends, so the later of the two counts.
        wall: source.at.max(destination.at).duration_since(begin),
        processor: source.processor + destination.processor,
        wire_bytes: counts.wire_sent_bytes + counts.wire_received_bytes,
        source_peak: peaks.map(|(source, _)| source),
        destination_peak: peaks.map(|(_, destination)| destination),
    })
}

fn start(
    movers: &Path,
    scratch: &Scratch,
    side: &str,
    data: &Path,
    method: Method,
) -> Result<Child> {
    let task = Task {
        name: format!("bench/{side}"),
        data: data.to_owned(),
        report: scratch.join(format!("{side}.report")),
        events: side == "destination",
        strict_attributes: false,
        method,
    };
    let log =
        fs::File::create(scratch.join(format!("{side}.log"))).context("cannot create a log")?;
    let program = movers.join(MOVER);
    Command::new(&program)
        .envs(task.to_env())
        .stdin(Stdio::null())
        .stdout(if task.events { Stdio::piped() } else { Stdio::null() })
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))
}

/// Waits until a destination says where it listens, then drops whatever else it says.
fn listening(destination: &mut Child) -> Option<SocketAddr> {
    let mut lines = BufReader::new(destination.stdout.take()?).lines();
    let address =
        lines.by_ref().map_while(Result::ok).find_map(|line| {
            match serde_json::from_str::<Event>(&line) {
                Ok(Event::Listening { address }) => Some(address),
                Ok(Event::Progress(_)) | Err(_) => None,
            }
        })?;
    std::thread::spawn(move || lines.for_each(drop));
    Some(address)
}

fn log(scratch: &Scratch, side: &str) -> String {
    fs::read_to_string(scratch.join(format!("{side}.log"))).unwrap_or_default()
}
