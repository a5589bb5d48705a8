package nbdextents

/*
#include <stdlib.h>
#include <nbd_extents.h>
*/
import "C"

import (
	"fmt"
	"unsafe"
)

// Options shape a survey. The zero value of each field stands for the default.
type Options struct {
	// Contexts are what the survey asks about. The i-th bitmap is bit i of Extent.Bitmaps.
	Contexts []Context
	// Writable permits an export that can be written to meanwhile: of two answers that contradict each
	// other the safer one holds, and the map is of no single moment.
	Writable bool
	// BitmapFirst asks the bitmaps over the whole range and the other contexts inside dirty ranges
	// alone. It needs two connections: see Survey.Topic.
	BitmapFirst bool
	// BlockSize is the minimum block size that the server announced.
	BlockSize uint32
	// Range is the part of the export to survey; nil for all of it.
	Range *Range
	// Resume is the rest of an interrupted survey; instead of Range.
	Resume *ResumePoint
	// MaxRequest is the most bytes that one request asks about: 2 GiB, and never more.
	MaxRequest uint64
	// InFlight is the most requests in flight at one time: 16.
	InFlight int
	// Budget is the most bytes of replies held at one time: 32 MiB.
	Budget int
	// MaxEntries is the most (length, flags) pairs of one context in one reply: 1048576.
	MaxEntries int
	// Strict refuses whatever breaks the protocol.
	Strict bool
	// OneExtent says that requests are sent with LIBNBD_CMD_FLAG_REQ_ONE.
	OneExtent bool
}

// Context is a context of a survey by its full name.
type Context struct {
	Name string
	// Optional: the server may lack it.
	Optional bool
	// Granted: the server has it. It counts for optional contexts alone; required ones must have been
	// granted.
	Granted bool
}

// Range is a part of an export.
type Range struct {
	Offset, Length uint64
}

// NewSurveyWithOptions makes a survey of an export of size bytes.
func NewSurveyWithOptions(size uint64, options Options) (*Survey, error) {
	if err := options.check("NewSurvey"); err != nil {
		return nil, err
	}
	c, err := made("NewSurvey", func() *C.nbdx_options { return C.nbdx_options_new(C.uint64_t(size)) })
	if err != nil {
		return nil, err
	}
	defer C.nbdx_options_free(c)
	if !options.apply(c) {
		return nil, failure("NewSurvey", C.nbdx_options_error(c))
	}
	survey, err := made("NewSurvey", func() *C.nbdx_survey { return C.nbdx_survey_with_options(c) })
	if err != nil {
		return nil, err
	}
	return &Survey{survey}, nil
}

// check refuses what C would take for something else.
func (o *Options) check(op string) error {
	for _, context := range o.Contexts {
		if err := checkName(op, context.Name); err != nil {
			return err
		}
	}
	for _, limit := range []int{o.InFlight, o.Budget, o.MaxEntries} {
		if limit < 0 {
			return &Error{Op: op, Message: fmt.Sprintf("a limit cannot be %d", limit)}
		}
	}
	return nil
}

// apply stops at the first option that is refused.
func (o *Options) apply(c *C.nbdx_options) bool {
	for _, context := range o.Contexts {
		if !context.apply(c) {
			return false
		}
	}
	if r := o.Range; r != nil && C.nbdx_options_range(c, C.uint64_t(r.Offset), C.uint64_t(r.Length)) != 0 {
		return false
	}
	if o.Resume != nil {
		point := *o.Resume
		if C.nbdx_options_resume(c, (*C.nbdx_resume_point)(unsafe.Pointer(&point))) != 0 {
			return false
		}
	}
	return (!o.Writable || C.nbdx_options_writable(c) == 0) &&
		(!o.BitmapFirst || C.nbdx_options_bitmap_first(c) == 0) &&
		(o.BlockSize == 0 || C.nbdx_options_block_size(c, C.uint32_t(o.BlockSize)) == 0) &&
		(o.MaxRequest == 0 || C.nbdx_options_max_request(c, C.uint64_t(o.MaxRequest)) == 0) &&
		(o.InFlight == 0 || C.nbdx_options_in_flight(c, C.size_t(o.InFlight)) == 0) &&
		(o.Budget == 0 || C.nbdx_options_budget(c, C.size_t(o.Budget)) == 0) &&
		(o.MaxEntries == 0 || C.nbdx_options_max_entries(c, C.size_t(o.MaxEntries)) == 0) &&
		(!o.Strict || C.nbdx_options_strict(c) == 0) &&
		(!o.OneExtent || C.nbdx_options_one_extent(c) == 0)
}

func (x Context) apply(c *C.nbdx_options) bool {
	name := C.CString(x.Name)
	defer C.free(unsafe.Pointer(name))
	if !x.Optional {
		return C.nbdx_options_require(c, name) == 0
	}
	return C.nbdx_options_optional(c, name, flag(x.Granted)) == 0
}

// flag is a bool for C.
func flag(set bool) C.int {
	if set {
		return 1
	}
	return 0
}
