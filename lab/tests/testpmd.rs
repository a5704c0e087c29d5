//! DPDK.
use serde_json::json;
use sumac_lab::{Image, Lab, Machine};
#[test]
fn testpmd_igb() {
    let Some(lab) = Lab::open("testpmd_igb") else {
        return;
    };
    let mut machine = Machine::new();
    machine.iommu(48).cores(2).memory_mib(1024);
    machine.arguments([
        "-netdev",
        "hubport,id=h1,hubid=0",
        "-netdev",
        "hubport,id=h2,hubid=0",
    ]);
    let a = machine
        .device(json!({"driver":"igb","netdev":"h1"}))
        .address;
    let b = machine
        .device(json!({"driver":"igb","netdev":"h2"}))
        .address;
    let mut image = Image::new(&lab);
    image
        .modules(&["vfio-pci", "vfio_iommu_type1"])
        .tools(&["dpdk-testpmd"]);
    let pmds = "usr/lib/x86_64-linux-gnu/dpdk/pmds-25.0";
    image
        .plugin(&format!("{pmds}/librte_mempool_ring.so.25.0"))
        .plugin(&format!("{pmds}/librte_net_e1000.so.25.0"));
    image.script(&format!("set -e; bind-vfio {a} {b}; echo 128 > /proc/sys/vm/nr_hugepages
       (sleep 4; echo 'show port stats all'; echo quit; sleep 1) | dpdk-testpmd -l 0-1 -a {a} -a {b} -m 128 -- -i --total-num-mbufs=4096 --cmdline-file=/cmds
       "));
    image.file("cmds", 0o644, "set fwd mac\nstart tx_first\n");
    machine.boot(&lab, &image).finish().assert_code(0);
}
