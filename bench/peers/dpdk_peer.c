/*
 * DPDK's unmodified driver as a peer: one lcore that calls rte_eth_rx_burst and rte_eth_tx_burst in its main loop, and times
 * itself in windows that the harness asks for through a shared page.
 *
 * Usage: dpdk_peer EAL-OPTIONS -- CONTROL-FILE
 *
 * The page and the protocol are those of bench/src/control.rs; whatever is timed here is timed there in the same way.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <rte_cpuflags.h>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

#define LINE 64
#define MAX_WINDOWS 512
#define MAX_BATCH 64
#define RING 512
#define POOL 8192
#define CACHE 256
#define FRAME 60

enum mode { RECEIVE, TRANSMIT, FORWARD, MACSWAP };
enum kind { STREAM, PHASE, STEPPED, QUIT };

/* One measured window. */
struct window {
	uint64_t ticks;
	uint64_t packets;
	uint64_t round_trip;     /* median ticks of the ping-pong before the window */
	uint64_t switches;       /* involuntary context switches during it */
	uint64_t longest;        /* longest chunk of loop turns, ticks */
	uint64_t stale;          /* oldest heartbeat of the device seen, ticks */
	uint64_t empty;          /* loop turns that moved no packet */
	uint64_t device_idle;    /* device turns without work, of a thousand */
};

#define OWN_LINE __attribute__((aligned(LINE)))

struct control {
	/* the harness writes */
	OWN_LINE uint32_t command;    /* raised by one for each command */
	uint32_t mode, batch, kind, windows, unused;
	uint64_t window_ticks;
	/* the peer writes */
	OWN_LINE uint32_t done;       /* the command last finished */
	uint32_t ready;               /* 1: ports are up; 2: failed */
	/* ping-pong: the peer writes ping, the device's core answers; 0 ends it */
	OWN_LINE uint64_t ping;
	OWN_LINE uint64_t pong;
	/* the device's core writes */
	OWN_LINE uint64_t heartbeat;
	uint64_t turns, idle_turns;
	/* phase mode: the peer asks (1: fill and pause, 2: run on), the device answers by the same number */
	OWN_LINE uint32_t pause;
	OWN_LINE uint32_t paused;
	/* stepped mode: whose turn it is (a futex): 0 the device's, 1 the peer's */
	OWN_LINE uint32_t turn;
	OWN_LINE struct window results[MAX_WINDOWS];
};

static volatile struct control *control;
static struct rte_mempool *pool;
static uint64_t seen; /* what the metadata adds up to, so that reading it is not optimised away */

static void fail(const char *what, int code)
{
	fprintf(stderr, "dpdk_peer: %s: %s\n", what, rte_strerror(code < 0 ? -code : code));
	if (control)
		control->ready = 2;
	exit(1);
}

/*
 * DPDK's driver rings with MOVDIRI on processors that have it. That is made for a card's registers; on the ordinary memory
 * that stands for them here it drives the line out of every cache, and costs what no card costs: on a Xeon 850 ticks a
 * ring. So its libraries, which ask the program first, are told that the processor lacks it, and ring as they do elsewhere.
 */
int rte_cpu_get_flag_enabled(enum rte_cpu_flag_t feature)
{
	static int (*ask)(enum rte_cpu_flag_t);
	if (feature == RTE_CPUFLAG_MOVDIRI)
		return 0;
	if (!ask)
		ask = (int (*)(enum rte_cpu_flag_t))dlsym(RTLD_NEXT, "rte_cpu_get_flag_enabled");
	return ask ? ask(feature) : -ENOENT;
}

/* ---- what a packet costs: the four modes ---- */

static inline unsigned receive_some(uint16_t port, struct rte_mbuf **packets, unsigned batch)
{
	unsigned count = rte_eth_rx_burst(port, 0, packets, batch);
	for (unsigned i = 0; i < count; i++)
		seen += packets[i]->data_len;
	return count;
}

static inline void send_all(uint16_t port, struct rte_mbuf **packets, unsigned count)
{
	for (unsigned sent = 0; sent < count;)
		sent += rte_eth_tx_burst(port, 0, packets + sent, count - sent);
}

static inline unsigned turn_receive(unsigned batch)
{
	struct rte_mbuf *packets[MAX_BATCH];
	unsigned count = receive_some(0, packets, batch);
	for (unsigned i = 0; i < count; i++)
		seen ^= packets[i]->hash.rss ^ packets[i]->ol_flags ^ packets[i]->vlan_tci;
	rte_pktmbuf_free_bulk(packets, count);
	return count;
}

static inline unsigned turn_transmit(unsigned batch)
{
	struct rte_mbuf *packets[MAX_BATCH];
	if (rte_pktmbuf_alloc_bulk(pool, packets, batch))
		return 0;
	for (unsigned i = 0; i < batch; i++) {
		packets[i]->data_len = FRAME;
		packets[i]->pkt_len = FRAME;
	}
	send_all(1, packets, batch);
	return batch;
}

static inline void swap_addresses(struct rte_mbuf *packet)
{
	struct rte_ether_hdr *ethernet = rte_pktmbuf_mtod(packet, struct rte_ether_hdr *);
	struct rte_ether_addr kept = ethernet->dst_addr;
	ethernet->dst_addr = ethernet->src_addr;
	ethernet->src_addr = kept;
}

static inline unsigned turn_forward(unsigned batch, int swap)
{
	struct rte_mbuf *packets[MAX_BATCH];
	unsigned count = receive_some(0, packets, batch);
	if (swap)
		for (unsigned i = 0; i < count; i++)
			swap_addresses(packets[i]);
	send_all(1, packets, count);
	return count;
}

static inline __attribute__((always_inline)) unsigned one_turn(enum mode mode, unsigned batch)
{
	switch (mode) {
	case RECEIVE:
		return turn_receive(batch);
	case TRANSMIT:
		return turn_transmit(batch);
	case FORWARD:
		return turn_forward(batch, 0);
	default:
		return turn_forward(batch, 1);
	}
}

/* ---- how it is timed ---- */

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

/* The median of 33 round trips of a cache line to the device's core, in ticks. */
static uint64_t round_trip(void)
{
	enum { ROUNDS = 33 };
	uint64_t ticks[ROUNDS];
	control->ping = 1;
	while (__atomic_load_n(&control->pong, __ATOMIC_ACQUIRE) != 1)
		rte_pause();
	for (uint64_t i = 0; i < ROUNDS; i++) {
		uint64_t start = rte_rdtsc();
		__atomic_store_n(&control->ping, i + 2, __ATOMIC_RELEASE);
		while (__atomic_load_n(&control->pong, __ATOMIC_ACQUIRE) != i + 2)
			;
		ticks[i] = rte_rdtsc() - start;
	}
	__atomic_store_n(&control->ping, 0, __ATOMIC_RELEASE);
	while (__atomic_load_n(&control->pong, __ATOMIC_ACQUIRE) != 0)
		rte_pause();
	qsort(ticks, ROUNDS, sizeof(ticks[0]), by_value);
	return ticks[ROUNDS / 2];
}

static uint64_t involuntary_switches(void)
{
	struct rusage usage;
	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_nivcsw;
}

/* Loop turns between two looks at the clock: about a thousand packets. */
static unsigned turns_per_chunk(unsigned batch)
{
	return 1024 / batch; /* 16 at the largest batch */
}

static inline __attribute__((always_inline)) void stream_window(volatile struct window *window, enum mode mode,
								 unsigned batch)
{
	unsigned turns = turns_per_chunk(batch);
	uint64_t length = control->window_ticks, packets = 0, empty = 0, longest = 0, stale = 0;
	uint64_t all_turns = control->turns, idle_turns = control->idle_turns;
	uint64_t switches = involuntary_switches();
	uint64_t start = rte_rdtsc(), last = start;
	do {
		for (unsigned i = 0; i < turns; i++) {
			unsigned count = one_turn(mode, batch);
			packets += count;
			empty += count == 0;
		}
		uint64_t now = rte_rdtsc(), beat = control->heartbeat;
		if (now - last > longest)
			longest = now - last;
		if (now > beat && now - beat > stale)
			stale = now - beat;
		last = now;
	} while (last - start < length);
	window->ticks = last - start;
	window->packets = packets;
	window->empty = empty;
	window->longest = longest;
	window->stale = stale;
	window->switches = involuntary_switches() - switches;
	all_turns = control->turns - all_turns;
	window->device_idle = all_turns ? (control->idle_turns - idle_turns) * 1000 / all_turns : 0;
}

static void ask_device(uint32_t what)
{
	__atomic_store_n(&control->pause, what, __ATOMIC_RELEASE);
	while (__atomic_load_n(&control->paused, __ATOMIC_ACQUIRE) != what)
		rte_pause();
}

/* The device has filled the receive ring and emptied the transmit ring, and stands still: the driver alone. */
static inline __attribute__((always_inline)) void phase_window(volatile struct window *window, enum mode mode,
								unsigned batch)
{
	enum { PACKETS = 416 };
	uint64_t packets = 0, empty = 0;
	ask_device(1);
	uint64_t switches = involuntary_switches();
	uint64_t start = rte_rdtsc();
	for (unsigned left = PACKETS / batch; left; left--) {
		unsigned count = one_turn(mode, batch);
		packets += count;
		empty += count == 0;
	}
	window->ticks = rte_rdtsc() - start;
	window->packets = packets;
	window->empty = empty;
	window->switches = involuntary_switches() - switches;
	window->longest = window->ticks;
	window->stale = 0;
	window->device_idle = 0;
	ask_device(2);
}

static void give_turn(uint32_t to, uint32_t back)
{
	__atomic_store_n(&control->turn, to, __ATOMIC_RELEASE);
	syscall(SYS_futex, &control->turn, FUTEX_WAKE, 1, NULL, NULL, 0);
	while (__atomic_load_n(&control->turn, __ATOMIC_ACQUIRE) != back)
		syscall(SYS_futex, &control->turn, FUTEX_WAIT, to, NULL, NULL, 0);
}

/* The device takes its turns on the same core; a window is the median of 256 sections of 64 packets. */
static inline __attribute__((always_inline)) void stepped_window(volatile struct window *window, enum mode mode,
								  unsigned batch)
{
	enum { SECTIONS = 256, PACKETS = 64 };
	uint64_t ticks[SECTIONS], packets = 0, empty = 0;
	for (unsigned section = 0; section < SECTIONS; section++) {
		give_turn(0, 1);
		uint64_t start = rte_rdtsc();
		for (unsigned left = PACKETS / batch; left; left--) {
			unsigned count = one_turn(mode, batch);
			packets += count;
			empty += count == 0;
		}
		ticks[section] = rte_rdtsc() - start;
	}
	qsort(ticks, SECTIONS, sizeof(ticks[0]), by_value);
	window->ticks = ticks[SECTIONS / 2] * SECTIONS;
	window->packets = packets;
	window->empty = empty;
	window->longest = ticks[SECTIONS - 1];
	window->switches = 0;
	window->stale = 0;
	window->device_idle = 0;
}

static inline __attribute__((always_inline)) void run_windows(enum mode mode, unsigned batch)
{
	unsigned count = control->windows;
	if (count > MAX_WINDOWS)
		count = MAX_WINDOWS;
	for (unsigned i = 0; i < count; i++) {
		volatile struct window *window = &control->results[i];
		switch (control->kind) {
		case STREAM:
			window->round_trip = round_trip();
			stream_window(window, mode, batch);
			break;
		case PHASE:
			window->round_trip = round_trip();
			phase_window(window, mode, batch);
			break;
		default:
			window->round_trip = 0;
			stepped_window(window, mode, batch);
		}
	}
}

/* One copy of the loops for each mode, as an application would have. */
static void run_command(void)
{
	unsigned batch = control->batch;
	switch (control->mode) {
	case RECEIVE:
		run_windows(RECEIVE, batch);
		break;
	case TRANSMIT:
		run_windows(TRANSMIT, batch);
		break;
	case FORWARD:
		run_windows(FORWARD, batch);
		break;
	default:
		run_windows(MACSWAP, batch);
	}
}

/* ---- set-up ---- */

static void start_port(uint16_t port)
{
	struct rte_eth_conf conf = {
		.rxmode = { .mq_mode = RTE_ETH_MQ_RX_RSS,
			    .offloads = RTE_ETH_RX_OFFLOAD_RSS_HASH | RTE_ETH_RX_OFFLOAD_CHECKSUM | RTE_ETH_RX_OFFLOAD_VLAN_STRIP },
		.rx_adv_conf.rss_conf.rss_hf = RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_TCP,
	};
	struct rte_eth_dev_info info;
	int code = rte_eth_dev_info_get(port, &info);
	if (code)
		fail("device information", code);
	conf.rx_adv_conf.rss_conf.rss_hf &= info.flow_type_rss_offloads;
	code = rte_eth_dev_configure(port, 1, 1, &conf);
	if (code)
		fail("configure", code);
	struct rte_eth_rxconf rx = info.default_rxconf;
	rx.offloads = conf.rxmode.offloads;
	struct rte_eth_txconf tx = info.default_txconf;
	tx.offloads = 0;
	code = rte_eth_rx_queue_setup(port, 0, RING, 0, &rx, pool);
	if (code)
		fail("receive queue", code);
	code = rte_eth_tx_queue_setup(port, 0, RING, 0, &tx);
	if (code)
		fail("transmit queue", code);
	code = rte_eth_dev_start(port);
	if (code)
		fail("start", code);
	code = rte_eth_promiscuous_enable(port);
	if (code)
		fail("promiscuous mode", code);
}

static void map_control(const char *path)
{
	int file = open(path, O_RDWR);
	if (file < 0)
		fail(path, errno);
	void *page = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (page == MAP_FAILED)
		fail("mapping the control page", errno);
	close(file);
	control = page;
}

int main(int argc, char **argv)
{
	map_control(argv[argc - 1]);
	int code = rte_eal_init(argc, argv);
	if (code < 0)
		fail("EAL", rte_errno);
	if (rte_eth_dev_count_avail() != 2)
		fail("looking for two ports", ENODEV);
	pool = rte_pktmbuf_pool_create("packets", POOL, CACHE, 0, RTE_MBUF_DEFAULT_BUF_SIZE, 0);
	if (!pool)
		fail("packet pool", rte_errno);
	start_port(0);
	start_port(1);
	uint32_t done = control->command;
	control->ready = 1;
	for (;;) {
		uint32_t command = __atomic_load_n(&control->command, __ATOMIC_ACQUIRE);
		if (command == done) {
			syscall(SYS_futex, &control->command, FUTEX_WAIT, done, NULL, NULL, 0);
			continue;
		}
		if (control->kind == QUIT)
			break;
		run_command();
		done = command;
		__atomic_store_n(&control->done, done, __ATOMIC_RELEASE);
	}
	rte_eth_dev_stop(0);
	rte_eth_dev_stop(1);
	rte_eal_cleanup();
	return (int)(seen & 0); /* the sum is used */
}
