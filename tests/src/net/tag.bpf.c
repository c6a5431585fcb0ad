// Tags what an interface sends and takes the tag off what it receives, as a VLAN interface of the kernel does: the tag
// travels beside the frame and checksums stay unfinished. CONTROL is the tag's 16 bits.

typedef unsigned short u16;
typedef unsigned int u32;

// First fields of the context (linux/bpf.h).
struct __sk_buff {
  u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto;
};

// Numbers of enum bpf_func_id (linux/bpf.h).
static long (*vlan_push)(struct __sk_buff *frame, u16 ethertype, u16 control) = (void *)18;
static long (*vlan_pop)(struct __sk_buff *frame) = (void *)19;

// Results (linux/pkt_cls.h).
enum { TC_ACT_OK = 0, TC_ACT_SHOT = 2 };

enum { VLAN = CONTROL & 0xfff };

__attribute__((section("sending"), used)) int tag(struct __sk_buff *frame) {
  return vlan_push(frame, __builtin_bswap16(0x8100), CONTROL) ? TC_ACT_SHOT : TC_ACT_OK;
}

// Only what carries the same VLAN id comes in; with VLAN 0, a priority and no VLAN, only what carries no tag.
__attribute__((section("receiving"), used)) int untag(struct __sk_buff *frame) {
  if (!VLAN) return frame->vlan_present ? TC_ACT_SHOT : TC_ACT_OK;
  if (!frame->vlan_present || (frame->vlan_tci & 0xfff) != VLAN) return TC_ACT_SHOT;
  return vlan_pop(frame) ? TC_ACT_SHOT : TC_ACT_OK;
}
