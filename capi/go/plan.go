package nbdextents

/*
#include <nbd_extents.h>
*/
import "C"

import "unsafe"

// Policy is which kind of backup to make. No policy skips a byte that the target may not hold: where the
// status does not say enough, using the policy fails.
type Policy struct {
	c *C.nbdx_policy
}

// Zeroes says what happens to bytes that have to be brought over and read as zeroes.
type Zeroes int

const (
	// ZeroesMayUnmap: they need no space on the target. The default.
	ZeroesMayUnmap Zeroes = C.NBDX_ZEROES_MAY_UNMAP
	// ZeroesKeepHoles: they need no space where the source has a hole.
	ZeroesKeepHoles Zeroes = C.NBDX_ZEROES_KEEP_HOLES
	// ZeroesAllocate: they get space.
	ZeroesAllocate Zeroes = C.NBDX_ZEROES_ALLOCATE
	// ZeroesAsData: they are copied, for servers whose zero status is wrong.
	ZeroesAsData Zeroes = C.NBDX_ZEROES_AS_DATA
)

// NewFull is a full backup. ontoZeroes: the target reads as zeroes already, so zeroes are skipped.
func NewFull(ontoZeroes bool) (*Policy, error) {
	return newPolicy("NewFull", func() *C.nbdx_policy { return C.nbdx_policy_full(flag(ontoZeroes)) })
}

// NewIncremental is the changes since the previous backup. The disk had previousSize bytes then and has
// size now. bitmaps has the bits of all bitmaps that together track the changes. Another size is an
// error, unless allowGrown: then all beyond the old end is dirty, whatever the bitmaps say.
func NewIncremental(previousSize, size uint64, bitmaps uint32, allowGrown bool) (*Policy, error) {
	return newPolicy("NewIncremental", func() *C.nbdx_policy {
		return C.nbdx_policy_incremental(
			C.uint64_t(previousSize), C.uint64_t(size), C.uint32_t(bitmaps), flag(allowGrown))
	})
}

// NewSingleLayer is what one layer of an image holds, without the layers below. It needs the context
// qemu:allocation-depth.
func NewSingleLayer() (*Policy, error) {
	return newPolicy("NewSingleLayer", func() *C.nbdx_policy { return C.nbdx_policy_single_layer() })
}

func newPolicy(op string, make func() *C.nbdx_policy) (*Policy, error) {
	c, err := made(op, make)
	if err != nil {
		return nil, err
	}
	return &Policy{c}, nil
}

// SetZeroes chooses what happens to zeroes.
func (p *Policy) SetZeroes(zeroes Zeroes) error {
	if p.c == nil {
		return ErrClosed
	}
	if C.nbdx_policy_zeroes(p.c, C.int(zeroes)) != 0 {
		return failure("SetZeroes", C.nbdx_policy_error(p.c))
	}
	return nil
}

// Close frees the policy.
func (p *Policy) Close() error {
	C.nbdx_policy_free(p.c)
	p.c = nil
	return nil
}

// Plan is the requests that carry out a policy on a map.
type Plan struct {
	c *C.nbdx_plan
}

// PlanOptions shape a plan. The zero value of each field stands for the default.
type PlanOptions struct {
	// MaxCopy and MaxZero are the most bytes of one request: 32 MiB and 1 GiB.
	MaxCopy, MaxZero uint64
	// JoinGaps: two copies with at most this many bytes between them become one request.
	JoinGaps uint64
	// DirtyOnly touches no skipped byte, not even to fill a block.
	DirtyOnly bool
	// Resume is the position of an interrupted plan; nil to start at the start of the map.
	Resume *Position
}

// Position is where an interrupted plan can be taken up.
type Position struct {
	Offset, Size uint64
}

// NewPlan plans the requests that carry out a policy on what the map describes now, in whole blocks of
// blockSize bytes (a power of two). The map and the policy can be closed before the plan.
func NewPlan(m *Map, policy *Policy, blockSize uint64, options PlanOptions) (*Plan, error) {
	if m.c == nil || policy.c == nil {
		return nil, ErrClosed
	}
	c, err := made("NewPlan", func() *C.nbdx_plan {
		return C.nbdx_plan_new(m.c, policy.c, C.uint64_t(blockSize))
	})
	if err != nil {
		return nil, err
	}
	plan := &Plan{c}
	if !options.apply(c) {
		defer plan.Close()
		return nil, plan.failure("NewPlan")
	}
	return plan, nil
}

func (o *PlanOptions) apply(c *C.nbdx_plan) bool {
	if r := o.Resume; r != nil && C.nbdx_plan_resume(c, C.uint64_t(r.Offset), C.uint64_t(r.Size)) != 0 {
		return false
	}
	return (o.MaxCopy == 0 || C.nbdx_plan_max_copy(c, C.uint64_t(o.MaxCopy)) == 0) &&
		(o.MaxZero == 0 || C.nbdx_plan_max_zero(c, C.uint64_t(o.MaxZero)) == 0) &&
		(o.JoinGaps == 0 || C.nbdx_plan_join_gaps(c, C.uint64_t(o.JoinGaps)) == 0) &&
		(!o.DirtyOnly || C.nbdx_plan_dirty_only(c) == 0)
}

// Read writes steps to out, which are Copy or WriteZeroes and ascend, and says how many: 0 at the end.
func (p *Plan) Read(out []Action) (int, error) {
	if p.c == nil {
		return 0, ErrClosed
	}
	n := C.nbdx_plan_read(p.c, (*C.nbdx_action)(first(out)), C.size_t(len(out)))
	if n < 0 {
		return 0, p.failure("Read")
	}
	return int(n), nil
}

// Position is the end of the last step read. A caller that works on several steps at once saves the start
// of the first that is not done.
func (p *Plan) Position() (Position, error) {
	if p.c == nil {
		return Position{}, ErrClosed
	}
	var offset, size C.uint64_t
	if C.nbdx_plan_position(p.c, &offset, &size) != 0 {
		return Position{}, p.failure("Position")
	}
	return Position{uint64(offset), uint64(size)}, nil
}

// Totals are the bytes and requests of the steps read.
func (p *Plan) Totals() (Totals, error) {
	if p.c == nil {
		return Totals{}, ErrClosed
	}
	var totals Totals
	if C.nbdx_plan_totals(p.c, (*C.nbdx_totals)(unsafe.Pointer(&totals))) != 0 {
		return Totals{}, p.failure("Totals")
	}
	return totals, nil
}

// Close frees the plan.
func (p *Plan) Close() error {
	C.nbdx_plan_free(p.c)
	p.c = nil
	return nil
}

func (p *Plan) failure(op string) error {
	return failure(op, C.nbdx_plan_error(p.c))
}
