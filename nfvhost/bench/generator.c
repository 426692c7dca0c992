/* Sends frames on one DPDK port at a rate kept by the TSC, and counts what comes back on another.
 *
 *   generator EAL-ARGUMENTS -- --sizes 64:7,570:4,1518:1 --flows 1000 [--tx N] [--rx N] [--guest A:B] [--headers HEX] [--more N] [--addressed]
 *
 * Then one trial for each line on stdin, "SECONDS PPS" (PPS 0: as fast as it can), and one line of JSON for each:
 * intended = sent + refused + behind, in the seconds that the program had its CPU. --guest forwards from port A to port B and back, as an l2fwd in a guest does.
 * --headers stand in the place of the Ethernet header of what is sent (of IPv6, its length is filled in): the sizes are those of the plain frames inside.
 * --more bytes are on top of the plain headers in what comes back.
 * --addressed frames go from the one port's own address to the other's.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_mbuf.h>
#include <rte_udp.h>

enum {
    BURST = 32,
    DESCRIPTORS = 1024,
    MBUFS = 16383,
    FCS = 4,
    MOST_PARTS = 8,
    MOST_HEADERS = 256,
    IPV6_LENGTH = 18,
    BEFORE_IPV6_PAYLOAD = 54,
    MOST_SLOTS = 64,
    LINK_WAIT_S = 20,
    DRAIN_QUIET_MS = 20,
    DRAIN_MOST_MS = 1000,
    SETTLE_MS = 20,
    /* Latency is counted in steps of 1/16 of a power of two of TSC cycles. */
    STEPS = 16,
    BUCKETS = 64 * STEPS,
};
static const uint32_t MAGIC = 0x6e667668;
/* To send at once what is owed beyond this would not be the rate. */
static const double MOST_BURST_S = 0.0002;
/* A round that took so long was not at work: the scheduler had given the CPU away. The clock of the trial stands still. */
static const double ABSENT_S = 0.001;

struct stamp {
    uint32_t magic;
    uint32_t trial;
    uint64_t tsc;
} __rte_packed;

struct packet {
    struct rte_ipv4_hdr ip;
    struct rte_udp_hdr udp;
    struct stamp stamp;
};

static struct rte_mempool *pool;
static uint16_t slots[MOST_SLOTS];
static unsigned slot_count, flow_count = 1, headers_length = RTE_ETHER_HDR_LEN, more;
static uint8_t headers[MOST_HEADERS] = {0x02, 0x6e, 0x66, 0x76, 0x01, 0x02, 0x02, 0x6e, 0x66, 0x76, 0x01, 0x01, 0x08, 0x00};
static uint16_t tx_port, rx_port, guest_a, guest_b;
static bool has_guest, addressed;
static uint32_t trial_number;
static uint64_t sequence;
static uint64_t latency[BUCKETS], latency_samples, latency_min, latency_max;

static void set_up(uint16_t port)
{
    struct rte_eth_conf conf = {0};
    uint16_t rx = DESCRIPTORS, tx = DESCRIPTORS;
    unsigned socket = rte_socket_id();
    if (rte_eth_dev_configure(port, 1, 1, &conf))
        rte_exit(1, "port %u cannot be configured\n", port);
    rte_eth_dev_adjust_nb_rx_tx_desc(port, &rx, &tx);
    if (rte_eth_rx_queue_setup(port, 0, rx, socket, NULL, pool) || rte_eth_tx_queue_setup(port, 0, tx, socket, NULL))
        rte_exit(1, "port %u has no queues\n", port);
    if (rte_eth_dev_start(port))
        rte_exit(1, "port %u does not start\n", port);
    rte_eth_promiscuous_enable(port);
}

static void fill(struct rte_mbuf *m, uint64_t now)
{
    uint32_t flow = sequence % flow_count;
    uint16_t length = slots[sequence % slot_count] - FCS - RTE_ETHER_HDR_LEN;
    sequence++;
    uint8_t *frame = (uint8_t *)rte_pktmbuf_append(m, headers_length + length);
    memcpy(frame, headers, headers_length);
    if (headers_length >= BEFORE_IPV6_PAYLOAD) {
        rte_be16_t payload = rte_cpu_to_be_16(headers_length + length - BEFORE_IPV6_PAYLOAD);
        memcpy(frame + IPV6_LENGTH, &payload, sizeof payload);
    }
    struct packet *h = (struct packet *)(frame + headers_length);
    h->ip = (struct rte_ipv4_hdr){
        .version_ihl = RTE_IPV4_VHL_DEF,
        .total_length = rte_cpu_to_be_16(length),
        .time_to_live = 64,
        .next_proto_id = IPPROTO_UDP,
        /* 198.18.0.0/15 is for benchmarks (RFC 2544, C.2.2). */
        .src_addr = rte_cpu_to_be_32(0xc6120001 + (flow >> 14)),
        .dst_addr = rte_cpu_to_be_32(0xc6130001),
    };
    h->ip.hdr_checksum = rte_ipv4_cksum(&h->ip);
    h->udp = (struct rte_udp_hdr){
        .src_port = rte_cpu_to_be_16(0xc000 + (flow & 0x3fff)),
        .dst_port = rte_cpu_to_be_16(9),
        .dgram_len = rte_cpu_to_be_16(length - sizeof h->ip),
    };
    h->stamp = (struct stamp){.magic = MAGIC, .trial = trial_number, .tsc = now};
}

static void note_latency(uint64_t cycles)
{
    unsigned power = cycles ? 63 - __builtin_clzll(cycles) : 0;
    unsigned step = power > 4 ? (cycles >> (power - 4)) & (STEPS - 1) : 0;
    latency[power * STEPS + step]++;
    if (!latency_samples++ || cycles < latency_min)
        latency_min = cycles;
    if (cycles > latency_max)
        latency_max = cycles;
}

/* How many frames of this trial came; all others are thrown away. The first of each burst tells the latency. */
static uint64_t receive(void)
{
    struct rte_mbuf *burst[BURST];
    uint16_t n = rte_eth_rx_burst(rx_port, 0, burst, BURST);
    if (!n)
        return 0;
    uint64_t now = rte_rdtsc(), counted = 0;
    for (uint16_t i = 0; i < n; i++) {
        const struct packet *h = rte_pktmbuf_mtod_offset(burst[i], const struct packet *, RTE_ETHER_HDR_LEN + more);
        if (burst[i]->data_len < RTE_ETHER_HDR_LEN + more + sizeof *h || h->stamp.magic != MAGIC || h->stamp.trial != trial_number)
            continue;
        if (!counted++)
            note_latency(now - h->stamp.tsc);
    }
    rte_pktmbuf_free_bulk(burst, n);
    return counted;
}

static void forward(uint16_t from, uint16_t to)
{
    struct rte_mbuf *burst[BURST];
    uint16_t n = rte_eth_rx_burst(from, 0, burst, BURST);
    if (!n)
        return;
    uint16_t out = rte_eth_tx_burst(to, 0, burst, n);
    if (out < n)
        rte_pktmbuf_free_bulk(burst + out, n - out);
}

static void serve_guest(void)
{
    if (has_guest) {
        forward(guest_a, guest_b);
        forward(guest_b, guest_a);
    }
}

/* What still comes, until nothing does for a while. */
static uint64_t drain(uint64_t hz, unsigned least_ms)
{
    uint64_t begin = rte_rdtsc(), last = begin, received = 0;
    for (;;) {
        uint64_t now = rte_rdtsc();
        uint64_t n = receive();
        serve_guest();
        received += n;
        if (n)
            last = now;
        if (now - begin > hz / 1000 * least_ms && now - last > hz / 1000 * DRAIN_QUIET_MS)
            return received;
        if (now - begin > hz / 1000 * DRAIN_MOST_MS)
            return received;
    }
}

static double quantile_us(double share, uint64_t hz)
{
    uint64_t wanted = (uint64_t)(share * latency_samples), seen = 0;
    for (unsigned i = 0; i < BUCKETS; i++) {
        seen += latency[i];
        if (seen > wanted) {
            unsigned power = i / STEPS, step = i % STEPS;
            double low = power > 4 ? (double)(1ULL << power) * (1 + step / (double)STEPS) : (double)(1ULL << power);
            return 1e6 * low / hz;
        }
    }
    return 1e6 * latency_max / hz;
}

static void run_trial(double seconds, double pps, uint64_t hz)
{
    trial_number++;
    drain(hz, SETTLE_MS);
    memset(latency, 0, sizeof latency);
    latency_samples = latency_min = latency_max = 0;
    uint64_t sent = 0, refused = 0, behind = 0, received = 0, allowed = (uint64_t)(pps * MOST_BURST_S) + BURST;
    uint64_t begin = rte_rdtsc(), end = begin + (uint64_t)(seconds * hz), last = begin, absent = 0, now;
    while ((now = rte_rdtsc()) < end || now - last > (uint64_t)(ABSENT_S * hz)) {
        if (now - last > (uint64_t)(ABSENT_S * hz)) {
            begin += now - last;
            end += now - last;
            absent += now - last;
        }
        last = now;
        uint64_t due = (uint64_t)((double)(now - begin) * pps / hz), done = sent + refused + behind;
        uint64_t owed = pps > 0 ? (due > done ? due - done : 0) : BURST;
        if (pps > 0 && owed > allowed) {
            behind += owed - allowed;
            owed = allowed;
        }
        if (owed) {
            uint16_t n = owed > BURST ? BURST : owed;
            struct rte_mbuf *burst[BURST];
            if (!rte_pktmbuf_alloc_bulk(pool, burst, n)) {
                for (uint16_t i = 0; i < n; i++)
                    fill(burst[i], now);
                uint16_t out = rte_eth_tx_burst(tx_port, 0, burst, n);
                sent += out;
                if (out < n) {
                    refused += n - out;
                    rte_pktmbuf_free_bulk(burst + out, n - out);
                }
            }
        }
        received += receive();
        serve_guest();
    }
    double took = (double)(now - begin) / hz;
    uint64_t intended = pps > 0 ? (uint64_t)(took * pps) : sent + refused;
    uint64_t done = sent + refused + behind;
    if (done < intended)
        behind += intended - done;
    else
        intended = done;
    received += drain(hz, 0);
    printf("{\"seconds\": %.6f, \"absent_s\": %.6f, \"intended\": %" PRIu64 ", \"sent\": %" PRIu64 ", \"refused\": %" PRIu64
           ", \"behind\": %" PRIu64 ", \"received\": %" PRIu64 ", \"samples\": %" PRIu64
           ", \"minimum_us\": %.3f, \"median_us\": %.3f, \"p99_us\": %.3f, \"maximum_us\": %.3f}\n",
           took, (double)absent / hz, intended, sent, refused, behind, received, latency_samples, 1e6 * latency_min / hz,
           quantile_us(0.5, hz), quantile_us(0.99, hz), 1e6 * latency_max / hz);
    fflush(stdout);
}

static void wait_for_links(uint64_t hz)
{
    uint64_t begin = rte_rdtsc();
    for (;;) {
        uint16_t port, up = 0;
        RTE_ETH_FOREACH_DEV(port) {
            struct rte_eth_link link;
            rte_eth_link_get_nowait(port, &link);
            up += link.link_status;
        }
        if (up == rte_eth_dev_count_avail())
            return;
        if (rte_rdtsc() - begin > LINK_WAIT_S * hz)
            rte_exit(1, "a port has no link after %d s\n", LINK_WAIT_S);
        usleep(1000);
    }
}

/* "64:7,570:4": the sizes of a round, the parts spread over it rather than one after the other. */
static void parse_sizes(char *text)
{
    unsigned size[MOST_PARTS], count[MOST_PARTS], given[MOST_PARTS] = {0}, parts = 0, total = 0;
    for (char *word = strtok(text, ","); word; word = strtok(NULL, ",")) {
        if (parts == MOST_PARTS || sscanf(word, "%u:%u", &size[parts], &count[parts]) != 2)
            rte_exit(1, "--sizes: %s\n", word);
        if (size[parts] < 64 || size[parts] > 1518)
            rte_exit(1, "--sizes: %u is no size of a frame\n", size[parts]);
        total += count[parts++];
    }
    if (!total || total > MOST_SLOTS)
        rte_exit(1, "--sizes: %u frames in a round\n", total);
    for (slot_count = 0; slot_count < total; slot_count++) {
        unsigned next = 0;
        double most = -1e9;
        for (unsigned i = 0; i < parts; i++) {
            double lag = (double)count[i] * (slot_count + 1) / total - given[i];
            if (lag > most) {
                most = lag;
                next = i;
            }
        }
        given[next]++;
        slots[slot_count] = size[next];
    }
}

static void parse_headers(const char *hex)
{
    for (headers_length = 0; hex[0] && hex[1]; hex += 2)
        if (headers_length == MOST_HEADERS || sscanf(hex, "%2hhx", &headers[headers_length++]) != 1)
            rte_exit(1, "--headers: %s\n", hex);
}

int main(int argc, char **argv)
{
    int taken = rte_eal_init(argc, argv);
    if (taken < 0)
        return 1;
    argc -= taken;
    argv += taken;
    static const struct option options[] = {
        {"sizes", required_argument, NULL, 's'}, {"flows", required_argument, NULL, 'f'},
        {"tx", required_argument, NULL, 't'},    {"rx", required_argument, NULL, 'r'},
        {"guest", required_argument, NULL, 'g'}, {"headers", required_argument, NULL, 'h'},
        {"more", required_argument, NULL, 'm'},  {"addressed", no_argument, NULL, 'a'},
        {0},
    };
    char default_sizes[] = "64:1", *sizes = default_sizes;
    int option;
    optind = 1;
    rx_port = rte_eth_dev_count_avail() > 1;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 's':
            sizes = optarg;
            break;
        case 'f':
            flow_count = RTE_MAX(1, atoi(optarg));
            break;
        case 't':
            tx_port = atoi(optarg);
            break;
        case 'r':
            rx_port = atoi(optarg);
            break;
        case 'g':
            if (sscanf(optarg, "%hu:%hu", &guest_a, &guest_b) != 2)
                rte_exit(1, "--guest: %s\n", optarg);
            has_guest = true;
            break;
        case 'h':
            parse_headers(optarg);
            break;
        case 'm':
            more = atoi(optarg);
            break;
        case 'a':
            addressed = true;
            break;
        default:
            return 1;
        }
    }
    parse_sizes(sizes);
    pool = rte_pktmbuf_pool_create("frames", MBUFS, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, rte_socket_id());
    if (!pool)
        rte_exit(1, "there is no memory for %d packet buffers\n", MBUFS);
    uint16_t port;
    RTE_ETH_FOREACH_DEV(port)
        set_up(port);
    if (!rte_eth_dev_is_valid_port(tx_port) || !rte_eth_dev_is_valid_port(rx_port))
        rte_exit(1, "there are %u ports\n", rte_eth_dev_count_avail());
    if (addressed) {
        rte_eth_macaddr_get(rx_port, (struct rte_ether_addr *)headers);
        rte_eth_macaddr_get(tx_port, (struct rte_ether_addr *)(headers + RTE_ETHER_ADDR_LEN));
    }
    uint64_t hz = rte_get_tsc_hz();
    wait_for_links(hz);
    printf("{\"ready\": true}\n");
    fflush(stdout);
    double seconds, pps;
    while (scanf("%lf %lf", &seconds, &pps) == 2)
        run_trial(seconds, pps, hz);
    RTE_ETH_FOREACH_DEV(port) {
        rte_eth_dev_stop(port);
        rte_eth_dev_close(port);
    }
    rte_eal_cleanup();
    return 0;
}
