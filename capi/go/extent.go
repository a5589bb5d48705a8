package nbdextents

/*
#include <nbd_extents.h>
*/
import "C"

import "unsafe"

// Flags are the status of an extent. Each of the first three means something only where its Known
// flag is set: without the context that tells, the answer is unknown, neither yes nor no.
type Flags uint32

const (
	// Dirty: changed, by any of the bitmaps.
	Dirty Flags = C.NBDX_DIRTY
	// Zero: reads as zeroes. Nothing else means that.
	Zero Flags = C.NBDX_ZERO
	// Hole: has no space allocated. A hole that is not Zero has undefined content and must be read.
	Hole Flags = C.NBDX_HOLE

	DirtyKnown Flags = C.NBDX_DIRTY_KNOWN
	ZeroKnown  Flags = C.NBDX_ZERO_KNOWN
	HoleKnown  Flags = C.NBDX_HOLE_KNOWN
	DepthKnown Flags = C.NBDX_DEPTH_KNOWN
)

// Has reports whether all of the given flags are set.
func (f Flags) Has(flags Flags) bool { return f&flags == flags }

// Extent is a range of the disk and its status, the same for each byte of it.
type Extent struct {
	Start, Length uint64
	Flags         Flags
	// Depth is the layer of the image that holds the bytes, 0 for none; see DepthKnown.
	Depth uint32
	// Bitmaps has bit i set where the i-th bitmap named marks the bytes as changed.
	Bitmaps  uint32
	reserved uint32
}

// End is the first byte beyond the extent.
func (e Extent) End() uint64 { return e.Start + e.Length }

// Entry is a (length, flags) pair of a reply, as in the callback of nbd_block_status_64.
type Entry struct {
	Length, Flags uint64
}

// Kind is one of the four things that can be done with a range.
type Kind uint32

const (
	// Copy: read the bytes and store them.
	Copy Kind = C.NBDX_COPY
	// WriteZeroes: make the bytes read as zeroes, or record that they do; never by TRIM alone.
	WriteZeroes Kind = C.NBDX_WRITE_ZEROES
	// Skip: the target has the bytes already.
	Skip Kind = C.NBDX_SKIP
	// Absent: the single layer that is backed up does not hold the bytes.
	Absent Kind = C.NBDX_ABSENT
)

func (k Kind) String() string {
	switch k {
	case Copy:
		return "copy"
	case WriteZeroes:
		return "zero"
	case Skip:
		return "skip"
	case Absent:
		return "absent"
	}
	return "unknown"
}

// Action is what to do with a range.
type Action struct {
	Start, Length uint64
	Kind          Kind
	flags         uint32
}

// End is the first byte beyond the action.
func (a Action) End() uint64 { return a.Start + a.Length }

// MayUnmap reports whether zeroes need no space on the target.
func (a Action) MayUnmap() bool { return a.flags&C.NBDX_MAY_UNMAP != 0 }

// Totals are the bytes of each action and, for a plan, its requests.
type Totals struct {
	Copy, Zero, Skip, Absent uint64
	Copies, Zeroes           uint64
}

// StatusTotal is how much of a map has one status.
type StatusTotal struct {
	Bytes, Extents uint64
	Flags          Flags
	Depth, Bitmaps uint32
	reserved       uint32
}

// Change is a range where two maps differ. InBefore or InAfter is 0 where only the other map describes
// the range.
type Change struct {
	Start, Length              uint64
	BeforeFlags                Flags
	BeforeDepth, BeforeBitmaps uint32
	InBefore                   uint32
	AfterFlags                 Flags
	AfterDepth, AfterBitmaps   uint32
	InAfter                    uint32
}

// ResumePoint is where a survey on a new connection can go on.
type ResumePoint struct {
	Offset, End, ExportSize uint64
}

// Stats are what a survey has cost up to now.
type Stats struct {
	Requests, Replies, Failed, Descriptors uint64
	AskedBytes, Extents, Disagreements     uint64
	PeakBytes, PeakInFlight, Forgiven      uint64
}

// Forgiven says how often a row of the table of server behaviour was forgiven.
type Forgiven struct {
	Row, Count uint64
}

// The structs are handed to C as they are. These do not compile when a size differs.
var (
	_ = [1]struct{}{}[unsafe.Sizeof(Extent{})-unsafe.Sizeof(C.nbdx_extent{})]
	_ = [1]struct{}{}[unsafe.Sizeof(Entry{})-unsafe.Sizeof(C.nbdx_entry{})]
	_ = [1]struct{}{}[unsafe.Sizeof(Action{})-unsafe.Sizeof(C.nbdx_action{})]
	_ = [1]struct{}{}[unsafe.Sizeof(Totals{})-unsafe.Sizeof(C.nbdx_totals{})]
	_ = [1]struct{}{}[unsafe.Sizeof(StatusTotal{})-unsafe.Sizeof(C.nbdx_total{})]
	_ = [1]struct{}{}[unsafe.Sizeof(Change{})-unsafe.Sizeof(C.nbdx_change{})]
	_ = [1]struct{}{}[unsafe.Sizeof(ResumePoint{})-unsafe.Sizeof(C.nbdx_resume_point{})]
	_ = [1]struct{}{}[unsafe.Sizeof(Stats{})-unsafe.Sizeof(C.nbdx_stats{})]
	_ = [1]struct{}{}[unsafe.Sizeof(Forgiven{})-unsafe.Sizeof(C.nbdx_forgiven{})]
)
