package nbdextents_test

// The drop-in pages of KubeVirt and vmsync (../DROP-IN.md), run. The walks that are replaced stand beside
// the replacements, on one scripted server, so that the difference shows. The code is ours, in the shape
// of theirs.

import (
	"reflect"
	"testing"

	"nbdextents"
)

const (
	allocation = "base:allocation"
	bitmap     = "qemu:dirty-bitmap:backup"
	mib        = 1 << 20
)

// run is a range of a disk with the flags of one context.
type run struct{ length, flags uint64 }

// server answers block status as libnbd would hand it on: each context with a reach of its own.
type server struct {
	disk  map[string][]run
	most  map[string]int // extents in one reply
	order []string
}

func (s *server) size() (sum uint64) {
	for _, r := range s.disk[allocation] {
		sum += r.length
	}
	return sum
}

// onContext is libnbd's callback: the entries of one context, from offset on.
type onContext func(context string, offset uint64, entries []nbdextents.Entry) error

func (s *server) blockStatus(count, offset uint64, callback onContext) error {
	for _, context := range s.order {
		var entries []nbdextents.Entry
		position := uint64(0)
		for _, r := range s.disk[context] {
			end, from := position+r.length, position
			if from < offset {
				from = offset
			}
			if from < end && from < offset+count && len(entries) < s.most[context] {
				entries = append(entries, nbdextents.Entry{Length: end - from, Flags: r.flags})
			}
			position = end
		}
		if err := callback(context, offset, entries); err != nil {
			return err
		}
	}
	return nil
}

// row is what both programs hand on: a range, and whether it is dirty and zero.
type row struct {
	start, length uint64
	dirty, zero   bool
}

// dirtyBytes counts the bytes that a list calls dirty.
func dirtyBytes(rows []row) (sum uint64) {
	for _, r := range rows {
		if r.dirty {
			sum += r.length
		}
	}
	return sum
}

// kubevirtToday merges the range that both contexts describe, and goes on at the largest offset that
// either of them reached.
func kubevirtToday(s *server) (rows []row, err error) {
	for current := uint64(0); current < s.size(); {
		lists, farthest := map[string][]row{}, current
		take := func(context string, offset uint64, entries []nbdextents.Entry) error {
			for _, e := range entries {
				lists[context] = append(lists[context], row{offset, e.Length, e.Flags&1 != 0, e.Flags&2 != 0})
				offset += e.Length
			}
			if offset > farthest {
				farthest = offset
			}
			return nil
		}
		if err := s.blockStatus(s.size()-current, current, take); err != nil {
			return nil, err
		}
		a, b := lists[allocation], lists[bitmap]
		for len(a) > 0 && len(b) > 0 {
			n := a[0].length
			if b[0].length < n {
				n = b[0].length
			}
			rows = append(rows, row{a[0].start, n, b[0].dirty, a[0].zero})
			for _, list := range []*[]row{&a, &b} {
				head := &(*list)[0]
				head.start, head.length = head.start+n, head.length-n
				if head.length == 0 {
					*list = (*list)[1:]
				}
			}
		}
		current = farthest
	}
	return rows, nil
}

// mapExtents replaces KubeVirt's walk and merge.
func mapExtents(s *server, survey *nbdextents.Survey, send func([]nbdextents.Extent) error) error {
	extents := make([]nbdextents.Extent, 512)
	for {
		request, ok, err := survey.NextRequest()
		if err != nil || !ok {
			break // Complete has the reason
		}
		take := func(context string, offset uint64, entries []nbdextents.Entry) error {
			return survey.Extents64(request.ID, context, offset, entries)
		}
		if err := s.blockStatus(request.Length, request.Offset, take); err != nil {
			return err
		}
		if err := survey.ReplyDone(request.ID); err != nil {
			return err
		}
		for n, err := survey.Read(extents); n > 0 || err != nil; n, err = survey.Read(extents) {
			if err != nil {
				return err
			}
			if err := send(extents[:n]); err != nil {
				return err
			}
		}
	}
	return survey.Complete()
}

// collect runs a survey of the contexts to its end.
func collect(t *testing.T, s *server, contexts ...string) (rows []row) {
	t.Helper()
	survey, err := nbdextents.NewSurvey(s.size(), contexts...)
	if err != nil {
		t.Fatal(err)
	}
	defer survey.Close()
	err = mapExtents(s, survey, func(extents []nbdextents.Extent) error {
		for _, e := range extents {
			rows = append(rows, row{e.Start, e.Length, e.Flags.Has(nbdextents.Dirty), e.Flags.Has(nbdextents.Zero)})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// The bitmap of one reply reaches farther than the allocation. The dirty bytes between the two are lost by
// the walk that goes on at the larger offset, and kept by the survey.
func TestKubeVirtKeepsEveryDirtyByte(t *testing.T) {
	s := &server{
		disk: map[string][]run{
			// fragmented: the first reply has two extents of it, up to 2 MiB
			allocation: {{mib, 0}, {mib, 3}, {mib, 0}, {mib, 3}, {mib, 0}, {3 * mib, 3}},
			// two extents of it reach 6 MiB
			bitmap: {{mib, 0}, {5 * mib, 1}, {2 * mib, 0}},
		},
		most:  map[string]int{allocation: 2, bitmap: 2},
		order: []string{allocation, bitmap},
	}
	lost, err := kubevirtToday(s)
	if err != nil {
		t.Fatal(err)
	}
	if got := dirtyBytes(lost); got != mib {
		t.Errorf("the walk of today finds %d dirty bytes, so this data does not show the loss", got)
	}

	kept := collect(t, s, allocation, bitmap)
	want := []row{
		{0, mib, false, false},
		{mib, mib, true, true},
		{2 * mib, mib, true, false},
		{3 * mib, mib, true, true},
		{4 * mib, mib, true, false},
		{5 * mib, mib, true, true},
		{6 * mib, 2 * mib, false, true},
	}
	if !reflect.DeepEqual(kept, want) {
		t.Errorf("got %v, want %v", kept, want)
	}
	if got := dirtyBytes(kept); got != 5*mib {
		t.Errorf("%d dirty bytes are kept", got)
	}
}

// vmsyncToday asks about one context, advances by what it asked whatever the reply covers, and for a full
// copy goes by the HOLE bit.
func vmsyncToday(s *server, context string, step uint64) (rows []row, err error) {
	for offset := uint64(0); offset < s.size(); offset += step {
		err := s.blockStatus(step, offset, func(got string, at uint64, entries []nbdextents.Entry) error {
			for _, e := range entries {
				if got == context {
					copied := e.Flags&1 != 0
					if context == allocation {
						copied = !copied
					}
					rows = append(rows, row{at, e.Length, copied, false})
				}
				at += e.Length
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// changedExtents replaces vmsync's listing: actions in place of a bool, so that zeroes are written without
// being read.
func changedExtents(
	s *server, survey *nbdextents.Survey, policy *nbdextents.Policy, bitmaps uint32,
) ([]nbdextents.Action, error) {
	disk, err := nbdextents.NewMap(0, bitmaps)
	if err != nil {
		return nil, err
	}
	defer disk.Close()
	err = mapExtents(s, survey, func(extents []nbdextents.Extent) error { return disk.Append(extents) })
	if err != nil {
		return nil, err
	}
	plan, err := nbdextents.NewPlan(disk, policy, 512, nbdextents.PlanOptions{MaxCopy: mib})
	if err != nil {
		return nil, err
	}
	defer plan.Close()
	var actions []nbdextents.Action
	step := make([]nbdextents.Action, 64)
	for n, err := plan.Read(step); n > 0 || err != nil; n, err = plan.Read(step) {
		if err != nil {
			return nil, err
		}
		actions = append(actions, step[:n]...)
	}
	return actions, nil
}

// show makes actions comparable.
func show(actions []nbdextents.Action) (rows []string) {
	for _, a := range actions {
		rows = append(rows, a.Kind.String()+" "+size(a.Start)+" "+size(a.Length))
	}
	return rows
}

func size(bytes uint64) string {
	return string(rune('0'+bytes/mib)) + "M"
}

func TestVmsyncIncrementalKeepsEveryDirtyByte(t *testing.T) {
	s := &server{
		disk: map[string][]run{
			allocation: {{4 * mib, 0}, {4 * mib, 3}},
			bitmap:     {{mib, 0}, {mib, 1}, {mib, 0}, {mib, 1}, {mib, 0}, {mib, 1}, {2 * mib, 0}},
		},
		// a reply describes less than was asked, as the protocol allows
		most:  map[string]int{allocation: 2, bitmap: 2},
		order: []string{allocation, bitmap},
	}
	lost, err := vmsyncToday(s, bitmap, 8*mib)
	if err != nil {
		t.Fatal(err)
	}
	if got := dirtyBytes(lost); got != mib {
		t.Errorf("the walk of today finds %d dirty bytes, so this data does not show the loss", got)
	}

	survey, err := nbdextents.NewSurvey(s.size(), allocation, bitmap)
	if err != nil {
		t.Fatal(err)
	}
	defer survey.Close()
	policy, err := nbdextents.NewIncremental(s.size(), s.size(), 1, false)
	if err != nil {
		t.Fatal(err)
	}
	defer policy.Close()
	actions, err := changedExtents(s, survey, policy, 1)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"copy 1M 1M", "copy 3M 1M", "zero 5M 1M"}
	if got := show(actions); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestVmsyncFullReadsHolesThatAreNotZero(t *testing.T) {
	s := &server{
		// data, a hole of undefined content, zeroes that have space, zeroes that have none
		disk:  map[string][]run{allocation: {{mib, 0}, {mib, 1}, {mib, 2}, {mib, 3}}},
		most:  map[string]int{allocation: 9},
		order: []string{allocation},
	}
	today, err := vmsyncToday(s, allocation, 8*mib)
	if err != nil {
		t.Fatal(err)
	}
	if today[1].dirty || !today[2].dirty {
		t.Errorf("today the hole is skipped and the zeroes are read: %v", today)
	}

	survey, err := nbdextents.NewSurvey(s.size(), allocation)
	if err != nil {
		t.Fatal(err)
	}
	defer survey.Close()
	policy, err := nbdextents.NewFull(false)
	if err != nil {
		t.Fatal(err)
	}
	defer policy.Close()
	actions, err := changedExtents(s, survey, policy, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"copy 0M 1M", "copy 1M 1M", "zero 2M 2M"}
	if got := show(actions); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
