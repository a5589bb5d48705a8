package nbdextents_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"nbdextents"
)

// oneReply feeds a survey of 8192 bytes with one reply: two blocks of data, the second dirty.
func oneReply(t *testing.T, survey *nbdextents.Survey) {
	t.Helper()
	request, ok, err := survey.NextRequest()
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if err := survey.Extents32(request.ID, allocation, 0, []uint32{8192, 0}); err != nil {
		t.Fatal(err)
	}
	if err := survey.Extents32(request.ID, bitmap, 0, []uint32{4096, 0, 4096, 1}); err != nil {
		t.Fatal(err)
	}
	if err := survey.ReplyDone(request.ID); err != nil {
		t.Fatal(err)
	}
}

func newSurvey(t *testing.T) *nbdextents.Survey {
	t.Helper()
	survey, err := nbdextents.NewSurvey(8192, allocation, bitmap)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { survey.Close() })
	return survey
}

func TestSurveyMapPlan(t *testing.T) {
	survey := newSurvey(t)
	oneReply(t, survey)
	bitmaps, err := survey.Bitmaps()
	if err != nil || bitmaps != 1 {
		t.Fatal(bitmaps, err)
	}
	disk, err := nbdextents.NewMap(0, bitmaps)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	if n, err := disk.ReadSurvey(survey); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	if err := survey.Complete(); err != nil {
		t.Fatal(err)
	}
	if err := disk.Covers(0, 8192); err != nil {
		t.Fatal(err)
	}
	extent, ok, err := disk.Get(5000)
	if err != nil || !ok || extent.Start != 4096 || extent.End() != 8192 || !extent.Flags.Has(nbdextents.Dirty) {
		t.Fatal(extent, ok, err)
	}
	totals, err := disk.Totals()
	if err != nil || len(totals) != 2 || totals[0].Bytes+totals[1].Bytes != 8192 {
		t.Fatal(totals, err)
	}
	stats, err := survey.Stats()
	if err != nil || stats.Requests != 1 || stats.Replies != 1 || stats.Descriptors != 3 {
		t.Fatal(stats, err)
	}
	policy, err := nbdextents.NewIncremental(8192, 8192, bitmaps, false)
	if err != nil {
		t.Fatal(err)
	}
	defer policy.Close()
	actions := make([]nbdextents.Action, 4)
	if n, err := disk.Actions(policy, 0, actions); n != 2 || err != nil || actions[0].Kind != nbdextents.Skip {
		t.Fatal(n, err, actions)
	}
	plan, err := nbdextents.NewPlan(disk, policy, 512, nbdextents.PlanOptions{MaxCopy: 2048})
	if err != nil {
		t.Fatal(err)
	}
	defer plan.Close()
	n, err := plan.Read(actions[:1])
	if n != 1 || err != nil || actions[0].Start != 4096 || actions[0].Length != 2048 {
		t.Fatal(n, err, actions[0])
	}
	position, err := plan.Position()
	if err != nil || position.Offset != 6144 {
		t.Fatal(position, err)
	}
	rest, err := nbdextents.NewPlan(disk, policy, 512, nbdextents.PlanOptions{Resume: &position})
	if err != nil {
		t.Fatal(err)
	}
	defer rest.Close()
	if n, err := rest.Read(actions); n != 1 || err != nil || actions[0].Start != 6144 {
		t.Fatal(n, err, actions[0])
	}
}

func TestResume(t *testing.T) {
	survey := newSurvey(t)
	point, err := survey.ResumePoint()
	if err != nil || point != (nbdextents.ResumePoint{Offset: 0, End: 8192, ExportSize: 8192}) {
		t.Fatal(point, err)
	}
	point.Offset = 4096
	options := nbdextents.Options{Contexts: []nbdextents.Context{{Name: allocation}}, Resume: &point}
	rest, err := nbdextents.NewSurveyWithOptions(8192, options)
	if err != nil {
		t.Fatal(err)
	}
	defer rest.Close()
	request, ok, err := rest.NextRequest()
	if err != nil || !ok || request.Offset != 4096 || request.Length != 4096 {
		t.Fatal(request, ok, err)
	}
	if _, err := nbdextents.NewSurveyWithOptions(16384, options); err == nil {
		t.Fatal("the export has grown")
	}
}

func TestErrorsCarryTheWordsOfTheLibrary(t *testing.T) {
	survey := newSurvey(t)
	var failure *nbdextents.Error
	if err := survey.Complete(); !errors.As(err, &failure) || !strings.Contains(failure.Message, "0 of 8192") {
		t.Fatal(err)
	}
	if _, err := survey.Read(nil); err == nil {
		t.Fatal("there is no room")
	}
	if err := survey.Extents32(1, allocation, 0, nil); err == nil {
		t.Fatal("there is no such request")
	}
	_, err := nbdextents.NewSurvey(8192, "x:y")
	if !errors.As(err, &failure) || !strings.Contains(failure.Message, "x:y") {
		t.Fatal(err)
	}
	if _, err := nbdextents.NewIncremental(8192, 4096, 1, true); err == nil {
		t.Fatal("the disk has shrunk")
	}
}

// C ends a string at a NUL: the name before it would be taken for the whole one.
func TestNamesWithANulAreRefused(t *testing.T) {
	const name = bitmap + "\x00x"
	_, err := nbdextents.NewSurvey(8192, allocation, name)
	if err == nil || !strings.Contains(err.Error(), `\x00x`) {
		t.Fatal(err)
	}
	optional := nbdextents.Options{Contexts: []nbdextents.Context{{Name: name, Optional: true, Granted: true}}}
	if _, err := nbdextents.NewSurveyWithOptions(8192, optional); err == nil {
		t.Fatal("it was taken for " + bitmap)
	}
	survey := newSurvey(t)
	request, _, err := survey.NextRequest()
	if err != nil {
		t.Fatal(err)
	}
	if err := survey.Extents32(request.ID, name, 0, []uint32{8192, 0}); err == nil {
		t.Fatal("it was taken for " + bitmap)
	}
	if err := survey.Extents64(request.ID, name, 0, []nbdextents.Entry{{Length: 8192}}); err == nil {
		t.Fatal("it was taken for " + bitmap)
	}
}

func TestNegativeLimitsAreRefused(t *testing.T) {
	for _, options := range []nbdextents.Options{{InFlight: -1}, {Budget: -1}, {MaxEntries: -1}} {
		options.Contexts = []nbdextents.Context{{Name: allocation}}
		if _, err := nbdextents.NewSurveyWithOptions(8192, options); err == nil {
			t.Fatal("a limit below 0 was taken", options)
		}
	}
}

func TestClosedObjectsSaySo(t *testing.T) {
	survey := newSurvey(t)
	survey.Close()
	survey.Close()
	if _, _, err := survey.NextRequest(); err != nbdextents.ErrClosed {
		t.Fatal(err)
	}
	if err := survey.Complete(); err != nbdextents.ErrClosed {
		t.Fatal(err)
	}
}

// Constructors that fail at the same time on many goroutines get their own messages: the message of a
// thread is read on the thread that failed.
func TestMessagesOfThreads(t *testing.T) {
	var group sync.WaitGroup
	for worker := 0; worker < 16; worker++ {
		name := fmt.Sprintf("n%02d:y", worker)
		group.Add(1)
		go func() {
			defer group.Done()
			for i := 0; i < 500; i++ {
				var failure *nbdextents.Error
				_, err := nbdextents.NewSurvey(4096, name)
				if !errors.As(err, &failure) || !strings.Contains(failure.Message, name) {
					t.Errorf("%q has the message %v", name, err)
					return
				}
			}
		}()
	}
	group.Wait()
}
