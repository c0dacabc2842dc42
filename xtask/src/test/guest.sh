# Runs in the guest, as root: the tests whose names contain one of the arguments.
set -u
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mkdir -p /run/netns
mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf
mountpoint -q /sys/fs/cgroup || mount -t cgroup2 cgroup2 /sys/fs/cgroup
# A guest loads no module by itself. What the kernel has built in, or not at all, is none.
for module in veth bridge vxlan dummy ipip tun sch_ingress cls_bpf act_bpf cls_u32 nf_conntrack nf_conntrack_netlink \
    nf_tables nft_chain_nat nft_masq nft_ct nft_nat nft_numgen ip_vs ip_vs_rr sctp; do
    modprobe -q -d "$KERNEL" "$module" || echo "no module $module"
done
ip link set lo up
uname -r
export RUST_BACKTRACE=0
for filter in "${@:-}"; do
    "$TESTS" $filter --test-threads 1 --nocapture
done
