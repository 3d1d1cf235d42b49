//! Programs that the kernel runs on the frames of a link.
//!
//! [`Shield`] keeps them from the kernel's own stack. [`SynFilter`] stands in front of a packet socket, before anybody is
//! woken. It always ignores frames of another VLAN: the kernel takes a tag out of the frame before a packet socket sees it, so
//! such a frame would look untagged. During a flood it also drops connection attempts that nobody wants
//! ([`SynFilter::set`]). It shares one piece of memory with the router:
//!
//! ```text
//!   0   u32      guarded IPv4 address; 0: none
//!   8   u64      frames dropped
//!  16   8 KiB    a bit for each port that is wanted, as in PortBitmap with little-endian words
//! ```

use std::io;
use std::mem::size_of;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use libc::{c_int, c_long};
use packet::PortBitmap;

/// What program and router share.
#[repr(C)]
struct Shared {
    address: AtomicU32,
    dropped: AtomicU64,
    wanted: [AtomicU64; PortBitmap::WORDS],
}

/// The memory of a filter, mapped; the program lives as long as its socket.
pub(crate) struct SynFilter {
    shared: NonNull<Shared>,
}

// SAFETY: the memory is all atomics, and this value is its one owner in the process.
unsafe impl Send for SynFilter {}

impl SynFilter {
    /// Makes a filter that lets every untagged frame pass and attaches it.
    ///
    /// # Errors
    /// If the kernel has no eBPF or does not let this process use it.
    pub fn attach(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let map = create_map()?;
        let filter = Self { shared: map_memory(&map)? };
        let program = load(BPF_PROG_TYPE_SOCKET_FILTER, &program(map.as_raw_fd()))?;
        const SO_ATTACH_BPF: c_int = 50;
        crate::sys::set_option(socket, libc::SOL_SOCKET, SO_ATTACH_BPF, program.as_raw_fd())?;
        Ok(filter)
    }

    /// Drops TCP segments that only ask for a connection (SYN without ACK) with `address` on a port that is not
    /// `wanted`; with `None` no more.
    pub fn set(&self, guard: Option<(Ipv4Addr, &PortBitmap)>) {
        let shared = self.shared();
        let Some((address, wanted)) = guard else {
            return shared.address.store(0, Relaxed);
        };
        // Relaxed: each word stands for itself. A frame that meets the new address with some of the old ports is
        // treated as it would have been before or after.
        for (word, wanted) in shared.wanted.iter().zip(wanted.words()) {
            word.store(wanted.to_le(), Relaxed);
        }
        shared.address.store(address.to_bits(), Relaxed);
    }

    /// How many frames it dropped so far.
    pub fn dropped(&self) -> u64 {
        self.shared().dropped.load(Relaxed)
    }

    fn shared(&self) -> &Shared {
        // SAFETY: the mapping is as long as `Shared`, aligned to a page, zeroed by the kernel, and lives as long as
        // this value; any bytes are valid atomics.
        unsafe { self.shared.as_ref() }
    }
}

impl Drop for SynFilter {
    fn drop(&mut self) {
        // SAFETY: the address and length are those of the mapping made at the start, to which no reference is left.
        // The program keeps the memory itself alive.
        unsafe { libc::munmap(self.shared.as_ptr().cast(), size_of::<Shared>()) };
    }
}

/// Drops what arrives on a link behind the packet sockets, where the kernel's own stack would look at it: routing,
/// martian checks and ARP for frames that are none of its business cost a fifth of all small packets. For as long as this
/// value lives.
pub(crate) struct Shield {
    _attached: OwnedFd,
}

impl Shield {
    /// Attaches it to the link with this index.
    ///
    /// # Errors
    /// If the kernel has no tcx (Linux 6.6) or does not let this process use it.
    pub fn attach(index: u32) -> io::Result<Self> {
        #[repr(C)]
        struct Attributes {
            prog_fd: u32,
            target_ifindex: u32,
            attach_type: u32,
            flags: u32,
        }
        const BPF_LINK_CREATE: c_int = 28;
        const BPF_TCX_INGRESS: u32 = 46;
        const TCX_DROP: i32 = 2;
        let instruction =
            |code, immediate| Instruction { code, registers: 0, offset: 0, immediate };
        let program = [instruction(MOVE, TCX_DROP), instruction(EXIT, 0)];
        let program = load(BPF_PROG_TYPE_SCHED_CLS, &program)?;
        let attributes = Attributes {
            prog_fd: program.as_raw_fd().cast_unsigned(),
            target_ifindex: index,
            attach_type: BPF_TCX_INGRESS,
            flags: 0,
        };
        bpf(BPF_LINK_CREATE, &attributes).map(|attached| Self { _attached: attached })
    }
}

fn create_map() -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        map_flags: u32,
    }
    const BPF_MAP_CREATE: c_int = 0;
    const BPF_MAP_TYPE_ARRAY: u32 = 2;
    const BPF_F_MMAPABLE: u32 = 1 << 10;
    bpf(
        BPF_MAP_CREATE,
        &Attributes {
            map_type: BPF_MAP_TYPE_ARRAY,
            key_size: 4,
            value_size: size_of::<Shared>() as u32,
            max_entries: 1,
            map_flags: BPF_F_MMAPABLE,
        },
    )
}

fn map_memory(map: &OwnedFd) -> io::Result<NonNull<Shared>> {
    let (read_write, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    // SAFETY: a new mapping at an address that the kernel chooses touches no memory of ours.
    let address = unsafe {
        libc::mmap(ptr::null_mut(), size_of::<Shared>(), read_write, shared, map.as_raw_fd(), 0)
    };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(address.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

/// One instruction of the program (Linux `struct bpf_insn`).
#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
    code: u8,
    /// Destination in the lower half, source in the upper.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const BPF_PROG_TYPE_SOCKET_FILTER: u32 = 1;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;

fn load(prog_type: u32, program: &[Instruction]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
    }
    const BPF_PROG_LOAD: c_int = 5;
    bpf(
        BPF_PROG_LOAD,
        &Attributes {
            prog_type,
            insn_cnt: program.len() as u32,
            insns: program.as_ptr() as u64,
            license: c"MPL-2.0".as_ptr() as u64,
        },
    )
}

/// A command of bpf(2) that makes a descriptor.
fn bpf<T>(command: c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads `attributes` for the length given, and what the addresses in it point to, all of
    // which the caller borrows for this call.
    let result: c_long = unsafe {
        libc::syscall(libc::SYS_bpf, command, ptr::from_ref(attributes), size_of::<T>() as u32)
    };
    let descriptor = c_int::try_from(result).ok().filter(|descriptor| *descriptor >= 0);
    let descriptor = descriptor.ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Where a conditional jump leads.
#[derive(Clone, Copy, PartialEq)]
enum To {
    /// The frame passes.
    Pass,
    /// The frame is ignored, as if it were none of ours.
    Ignore,
    /// Over so many instructions.
    Over(i16),
}

/// A program in the making: jumps to its end are filled in when the end is known.
#[derive(Default)]
struct Assembler {
    instructions: Vec<Instruction>,
    open: Vec<(usize, To)>,
}

impl Assembler {
    fn put(&mut self, code: u8, destination: u8, source: u8, offset: i16, immediate: i32) {
        let registers = source << 4 | destination;
        self.instructions.push(Instruction { code, registers, offset, immediate });
    }

    fn jump(&mut self, code: u8, destination: u8, source: u8, immediate: i32, to: To) {
        let offset = if let To::Over(count) = to { count } else { 0 };
        self.open.push((self.instructions.len(), to));
        self.put(code, destination, source, offset, immediate);
    }

    fn finish(mut self) -> Vec<Instruction> {
        for (end, result) in [(To::Pass, -1), (To::Ignore, 0)] {
            let here = self.instructions.len();
            for (jump, _) in self.open.iter().filter(|(_, to)| *to == end) {
                self.instructions[*jump].offset = (here - jump - 1) as i16;
            }
            self.put(MOVE, 0, 0, 0, result);
            self.put(EXIT, 0, 0, 0, 0);
        }
        self.instructions
    }
}

// Operations, as Linux's bpf.h numbers them: class, width or operator, source.
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const ADD: u8 = 0x07;
const ADD_REGISTER: u8 = 0x0f;
const AND: u8 = 0x57;
const SHIFT_LEFT: u8 = 0x67;
const SHIFT_RIGHT: u8 = 0x77;
const SHIFT_RIGHT_REGISTER: u8 = 0x7f;
const LOAD_WORD: u8 = 0x61;
const LOAD_BYTE: u8 = 0x71;
const LOAD_ADDRESS: u8 = 0x18;
const ATOMIC_ADD: u8 = 0xdb;
const FRAME_WORD: u8 = 0x20;
const FRAME_HALF: u8 = 0x28;
const FRAME_BYTE: u8 = 0x30;
const FRAME_HALF_INDEXED: u8 = 0x48;
const FRAME_BYTE_INDEXED: u8 = 0x50;
const IF_EQUAL: u8 = 0x15;
const IF_NOT_EQUAL: u8 = 0x55;
const IF_NOT_EQUAL_REGISTER: u8 = 0x5d;
const IF_ANY_BIT: u8 = 0x45;
const IF_LESS: u8 = 0xa5;
const IF_GREATER_REGISTER: u8 = 0x2d;
const EXIT: u8 = 0x95;

/// The program, for a map with this descriptor. Register 6 holds what the kernel says of the frame, 7 the shared
/// memory, 8 the guarded address, 9 the length of the IP header; loads from the frame end in register 0 and forget 1 to 5.
fn program(map: c_int) -> Vec<Instruction> {
    const LEN: i16 = 0;
    const VLAN_PRESENT: i16 = 20;
    const VLAN_TAG: i16 = 24;
    const VID_MASK: i32 = 0xfff;
    const SYN: i32 = 0x02;
    const SYN_ACK: i32 = 0x12;
    /// Ethernet header, shortest IP header, shortest TCP header.
    const SHORTEST: i32 = 14 + 20 + 20;
    let mut a = Assembler::default();
    a.put(MOVE_REGISTER, 6, 1, 0, 0);
    // A tag of another VLAN than the priority tag (VID 0).
    a.put(LOAD_WORD, 2, 6, VLAN_PRESENT, 0);
    a.jump(IF_EQUAL, 2, 0, 0, To::Over(3));
    a.put(LOAD_WORD, 2, 6, VLAN_TAG, 0);
    a.put(AND, 2, 0, 0, VID_MASK);
    a.jump(IF_NOT_EQUAL, 2, 0, 0, To::Ignore);
    // The address of the map's one value takes two instructions.
    const BPF_PSEUDO_MAP_VALUE: u8 = 2;
    a.put(LOAD_ADDRESS, 7, BPF_PSEUDO_MAP_VALUE, 0, map);
    a.put(0, 0, 0, 0, 0);
    a.put(LOAD_WORD, 8, 7, std::mem::offset_of!(Shared, address) as i16, 0);
    a.jump(IF_EQUAL, 8, 0, 0, To::Pass);
    // An IPv4 packet to the address, TCP, no later fragment. What is too short to tell is for the router to refuse.
    a.put(LOAD_WORD, 2, 6, LEN, 0);
    a.jump(IF_LESS, 2, 0, SHORTEST, To::Pass);
    a.put(FRAME_HALF, 0, 0, 0, 12);
    a.jump(IF_NOT_EQUAL, 0, 0, 0x0800, To::Pass);
    a.put(FRAME_WORD, 0, 0, 0, 14 + 16);
    a.jump(IF_NOT_EQUAL_REGISTER, 0, 8, 0, To::Pass);
    a.put(FRAME_BYTE, 0, 0, 0, 14 + 9);
    a.jump(IF_NOT_EQUAL, 0, 0, libc::IPPROTO_TCP, To::Pass);
    a.put(FRAME_HALF, 0, 0, 0, 14 + 6);
    a.jump(IF_ANY_BIT, 0, 0, 0x1fff, To::Pass);
    a.put(FRAME_BYTE, 0, 0, 0, 14);
    a.put(AND, 0, 0, 0, 0x0f);
    a.put(SHIFT_LEFT, 0, 0, 0, 2);
    a.put(MOVE_REGISTER, 9, 0, 0, 0);
    a.put(LOAD_WORD, 2, 6, LEN, 0);
    a.put(ADD, 0, 0, 0, 14 + 20);
    a.jump(IF_GREATER_REGISTER, 0, 2, 0, To::Pass);
    // Of SYN and ACK, only SYN.
    a.put(FRAME_BYTE_INDEXED, 0, 9, 0, 14 + 13);
    a.put(AND, 0, 0, 0, SYN_ACK);
    a.jump(IF_NOT_EQUAL, 0, 0, SYN, To::Pass);
    // The bit of the destination port: byte i holds ports 8i to 8i + 7, least significant first.
    a.put(FRAME_HALF_INDEXED, 0, 9, 0, 14 + 2);
    a.put(MOVE_REGISTER, 1, 0, 0, 0);
    a.put(SHIFT_RIGHT, 1, 0, 0, 3);
    a.put(AND, 1, 0, 0, 0x1fff);
    a.put(MOVE_REGISTER, 2, 7, 0, 0);
    a.put(ADD_REGISTER, 2, 1, 0, 0);
    a.put(LOAD_BYTE, 1, 2, std::mem::offset_of!(Shared, wanted) as i16, 0);
    a.put(AND, 0, 0, 0, 7);
    a.put(SHIFT_RIGHT_REGISTER, 1, 0, 0, 0);
    a.jump(IF_ANY_BIT, 1, 0, 1, To::Pass);
    a.put(MOVE, 1, 0, 0, 1);
    a.put(ATOMIC_ADD, 7, 1, std::mem::offset_of!(Shared, dropped) as i16, 0);
    a.put(MOVE, 0, 0, 0, 0);
    a.put(EXIT, 0, 0, 0, 0);
    a.finish()
}
