//! Measures the SSH transport over loopback: `ssh_throughput KEYS [MIB]`, where KEYS is a directory
//! with `source`, `source.pub`, `destination` and `destination.pub`.

use std::path::PathBuf;
use std::time::Instant;

use bytes::Bytes;
use volsync_mover_rsync::ssh::Stream;
use volsync_mover_rsync::ssh::client::{Target, connect};
use volsync_mover_rsync::ssh::keys::{DestinationKeys, SourceKeys};
use volsync_mover_rsync::ssh::server::Server;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let keys = PathBuf::from(arguments.next().unwrap_or_else(|| ".".to_owned()));
    let mebibytes: usize = arguments.next().map_or(Ok(2048), |number| number.parse())?;
    let mut server = Server::bind("127.0.0.1:0".parse()?, DestinationKeys::read(&keys)?)?;
    let target = Target { address: "127.0.0.1".to_owned(), port: server.local_address().port() };
    let receiving = tokio::spawn(async move {
        let Some(Stream { mut receiver, sender, .. }) = server.accept().await else { return Ok(0) };
        let mut bytes = 0;
        while let Some(part) = receiver.receive().await? {
            bytes += part.len();
        }
        sender.close().await?;
        receiver.receive().await?;
        Ok::<_, volsync_mover_rsync::ssh::Error>(bytes)
    });
    let started = Instant::now();
    let Stream { mut sender, .. } = connect(&target, &SourceKeys::read(&keys)?).await?;
    let connected = started.elapsed();
    let part = Bytes::from(vec![7; 1 << 20]);
    let started = Instant::now();
    for _ in 0..mebibytes {
        sender.send(part.clone()).await?;
    }
    sender.close().await?;
    let seconds = started.elapsed().as_secs_f64();
    let bytes = receiving.await??;
    anyhow::ensure!(bytes == mebibytes << 20, "{bytes} bytes have arrived");
    let speed = bytes as f64 / seconds / 1e6;
    eprintln!("connected in {connected:?}; {mebibytes} MiB in {seconds:.2} s = {speed:.0} MB/s");
    Ok(())
}
