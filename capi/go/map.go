package nbdextents

/*
#include <nbd_extents.h>
*/
import "C"

import "unsafe"

// Map is a whole disk in memory, in some 9 bytes an extent.
type Map struct {
	c *C.nbdx_map
}

// NewMap makes an empty map that starts at byte start. bitmaps has the bits of the bitmaps that its
// extents know, for example those that Survey.Bitmaps returns.
func NewMap(start uint64, bitmaps uint32) (*Map, error) {
	c, err := made("NewMap", func() *C.nbdx_map {
		return C.nbdx_map_new(C.uint64_t(start), C.uint32_t(bitmaps))
	})
	if err != nil {
		return nil, err
	}
	return &Map{c}, nil
}

// ReadSurvey moves all extents that a survey has ready to the end of the map, and says how many. Until
// Survey.Complete has returned nil, the map may lack extents.
func (m *Map) ReadSurvey(survey *Survey) (int, error) {
	if m.c == nil || survey.c == nil {
		return 0, ErrClosed
	}
	n := C.nbdx_map_read_survey(m.c, survey.c)
	if n < 0 {
		return 0, m.failure("ReadSurvey")
	}
	return int(n), nil
}

// Append adds extents, the first at the end of the map and each other one at the end of the one before
// it. On error nothing is added.
func (m *Map) Append(extents []Extent) error {
	if m.c == nil {
		return ErrClosed
	}
	if C.nbdx_map_append(m.c, (*C.nbdx_extent)(first(extents)), C.size_t(len(extents))) != 0 {
		return m.failure("Append")
	}
	return nil
}

// Covers returns nil when the map describes every byte from start to end.
func (m *Map) Covers(start, end uint64) error {
	if m.c == nil {
		return ErrClosed
	}
	if C.nbdx_map_covers(m.c, C.uint64_t(start), C.uint64_t(end)) != 0 {
		return m.failure("Covers")
	}
	return nil
}

// Get returns the extent over the byte at offset; ok is false outside of the map.
func (m *Map) Get(offset uint64) (extent Extent, ok bool, err error) {
	if m.c == nil {
		return Extent{}, false, ErrClosed
	}
	switch C.nbdx_map_get(m.c, C.uint64_t(offset), (*C.nbdx_extent)(unsafe.Pointer(&extent))) {
	case 1:
		return extent, true, nil
	case 0:
		return Extent{}, false, nil
	}
	return Extent{}, false, m.failure("Get")
}

// Read writes the extents from byte from on to out, the first one cut there, and says how many: 0 at the
// end. To go on, call it with the end of the last.
func (m *Map) Read(from uint64, out []Extent) (int, error) {
	if m.c == nil {
		return 0, ErrClosed
	}
	n := C.nbdx_map_read(m.c, C.uint64_t(from), (*C.nbdx_extent)(first(out)), C.size_t(len(out)))
	if n < 0 {
		return 0, m.failure("Read")
	}
	return int(n), nil
}

// Actions writes what a policy does with the bytes from byte from on to out. Otherwise as Read.
func (m *Map) Actions(policy *Policy, from uint64, out []Action) (int, error) {
	if m.c == nil || policy.c == nil {
		return 0, ErrClosed
	}
	n := C.nbdx_map_actions(m.c, policy.c, C.uint64_t(from), (*C.nbdx_action)(first(out)), C.size_t(len(out)))
	if n < 0 {
		return 0, m.failure("Actions")
	}
	return int(n), nil
}

// ActionTotals says how many bytes a policy copies, zeroes, skips and finds absent.
func (m *Map) ActionTotals(policy *Policy) (Totals, error) {
	if m.c == nil || policy.c == nil {
		return Totals{}, ErrClosed
	}
	var totals Totals
	if C.nbdx_map_action_totals(m.c, policy.c, (*C.nbdx_totals)(unsafe.Pointer(&totals))) != 0 {
		return Totals{}, m.failure("ActionTotals")
	}
	return totals, nil
}

// Totals are the bytes and extents of each status, in the order in which the statuses first come.
func (m *Map) Totals() ([]StatusTotal, error) {
	if m.c == nil {
		return nil, ErrClosed
	}
	rows, ok := table(func(rows []StatusTotal) C.ssize_t {
		return C.nbdx_map_totals(m.c, (*C.nbdx_total)(first(rows)), C.size_t(len(rows)))
	})
	if !ok {
		return nil, m.failure("Totals")
	}
	return rows, nil
}

// Diff writes where the map differs from a later one, from byte from on, to out. Otherwise as Read.
func (m *Map) Diff(after *Map, from uint64, out []Change) (int, error) {
	if m.c == nil || after.c == nil {
		return 0, ErrClosed
	}
	n := C.nbdx_map_diff(m.c, after.c, C.uint64_t(from), (*C.nbdx_change)(first(out)), C.size_t(len(out)))
	if n < 0 {
		return 0, m.failure("Diff")
	}
	return int(n), nil
}

// Measure returns the bytes that the map describes (start to end), its extents and its bytes in memory.
func (m *Map) Measure() (start, end, extents, memory uint64, err error) {
	if m.c == nil {
		return 0, 0, 0, 0, ErrClosed
	}
	var s, e, n, b C.uint64_t
	if C.nbdx_map_measure(m.c, &s, &e, &n, &b) != 0 {
		return 0, 0, 0, 0, m.failure("Measure")
	}
	return uint64(s), uint64(e), uint64(n), uint64(b), nil
}

// Close frees the map.
func (m *Map) Close() error {
	C.nbdx_map_free(m.c)
	m.c = nil
	return nil
}

func (m *Map) failure(op string) error {
	return failure(op, C.nbdx_map_error(m.c))
}
