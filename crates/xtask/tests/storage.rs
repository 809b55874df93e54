//! What the cluster's tests stand on: its storage driver does what the CSI specification says.

use std::process::Command;

#[test]
fn the_storage_driver_of_the_test_cluster_keeps_to_the_csi_specification() {
    let output = Command::new(env!("CARGO_BIN_EXE_volsync-xtask"))
        .args(["cluster", "sanity"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("SUCCESS!"), "{said}");
}
