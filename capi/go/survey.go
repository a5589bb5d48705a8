package nbdextents

/*
#include <stdlib.h>
#include <nbd_extents.h>
*/
import "C"

import "unsafe"

// Survey takes the replies of a server in and hands the merged extents out.
type Survey struct {
	c *C.nbdx_survey
}

// Request is what to ask the server: NBD_CMD_BLOCK_STATUS for Length bytes from Offset.
type Request struct {
	// ID is the name under which the reply is given.
	ID             uint64
	Offset, Length uint64
}

// Topic says which contexts a request is about; see Options.BitmapFirst.
type Topic int

const (
	TopicAll     Topic = C.NBDX_TOPIC_ALL
	TopicBitmaps Topic = C.NBDX_TOPIC_BITMAPS
	TopicDetails Topic = C.NBDX_TOPIC_DETAILS
)

// NewSurvey makes a survey of a whole read-only export of size bytes. The contexts are full names that
// the server has granted; all are required in each reply. NewSurveyWithOptions does anything else.
func NewSurvey(size uint64, contexts ...string) (*Survey, error) {
	options := Options{}
	for _, name := range contexts {
		options.Contexts = append(options.Contexts, Context{Name: name})
	}
	return NewSurveyWithOptions(size, options)
}

// NextRequest returns what to ask now. ok is false when there is nothing to ask now: enough is in
// flight, or all has been asked.
func (s *Survey) NextRequest() (request Request, ok bool, err error) {
	if s.c == nil {
		return Request{}, false, ErrClosed
	}
	var id, offset, length C.uint64_t
	switch C.nbdx_survey_next_request(s.c, &id, &offset, &length) {
	case 1:
		return Request{uint64(id), uint64(offset), uint64(length)}, true, nil
	case 0:
		return Request{}, false, nil
	}
	return Request{}, false, s.failure("NextRequest")
}

// Extents32 takes one context's part of a reply, from the callback of nbd_block_status: two entries
// (length, flags) for each extent, the first of which starts at offset.
func (s *Survey) Extents32(id uint64, context string, offset uint64, entries []uint32) error {
	if s.c == nil {
		return ErrClosed
	}
	if err := checkName("Extents32", context); err != nil {
		return err
	}
	name := C.CString(context)
	defer C.free(unsafe.Pointer(name))
	list, count := (*C.uint32_t)(first(entries)), C.size_t(len(entries))
	if C.nbdx_survey_extents32(s.c, C.uint64_t(id), name, C.uint64_t(offset), list, count) != 0 {
		return s.failure("Extents32")
	}
	return nil
}

// Extents64 takes one context's part of a reply, from the callback of nbd_block_status_64.
func (s *Survey) Extents64(id uint64, context string, offset uint64, entries []Entry) error {
	if s.c == nil {
		return ErrClosed
	}
	if err := checkName("Extents64", context); err != nil {
		return err
	}
	name := C.CString(context)
	defer C.free(unsafe.Pointer(name))
	list, count := first(entries), C.size_t(len(entries))
	if C.nbdx_survey_extents64(s.c, C.uint64_t(id), name, C.uint64_t(offset), list, count) != 0 {
		return s.failure("Extents64")
	}
	return nil
}

// ReplyDone says that the reply is whole: its extents can be read. On error nothing of it is used, and
// its range is asked again.
func (s *Survey) ReplyDone(id uint64) error {
	if s.c == nil {
		return ErrClosed
	}
	if C.nbdx_survey_reply_done(s.c, C.uint64_t(id)) != 0 {
		return s.failure("ReplyDone")
	}
	return nil
}

// ReplyFailed says that the server answered with an error. The range is asked again.
func (s *Survey) ReplyFailed(id uint64) error {
	if s.c == nil {
		return ErrClosed
	}
	if C.nbdx_survey_reply_failed(s.c, C.uint64_t(id)) != 0 {
		return s.failure("ReplyFailed")
	}
	return nil
}

// Read writes merged extents to out and says how many: 0 when there are none now.
func (s *Survey) Read(out []Extent) (int, error) {
	if s.c == nil {
		return 0, ErrClosed
	}
	n := C.nbdx_survey_read(s.c, (*C.nbdx_extent)(first(out)), C.size_t(len(out)))
	if n < 0 {
		return 0, s.failure("Read")
	}
	return int(n), nil
}

// Complete returns nil when the whole range was covered exactly once and every extent of it was read.
func (s *Survey) Complete() error {
	if s.c == nil {
		return ErrClosed
	}
	if C.nbdx_survey_complete(s.c) != 0 {
		return s.failure("Complete")
	}
	return nil
}

// Topic says which contexts a request in flight is about.
func (s *Survey) Topic(id uint64) (Topic, error) {
	if s.c == nil {
		return 0, ErrClosed
	}
	topic := C.nbdx_survey_request_topic(s.c, C.uint64_t(id))
	if topic < 0 {
		return 0, s.failure("Topic")
	}
	return Topic(topic), nil
}

// Bitmaps has bit i set for the i-th bitmap named, if the survey asks about it.
func (s *Survey) Bitmaps() (uint32, error) {
	if s.c == nil {
		return 0, ErrClosed
	}
	var bitmaps C.uint32_t
	if C.nbdx_survey_bitmaps(s.c, &bitmaps) != 0 {
		return 0, s.failure("Bitmaps")
	}
	return uint32(bitmaps), nil
}

// ResumePoint is where another survey can go on: see Options.Resume.
func (s *Survey) ResumePoint() (ResumePoint, error) {
	if s.c == nil {
		return ResumePoint{}, ErrClosed
	}
	var point ResumePoint
	if C.nbdx_survey_resume_point(s.c, (*C.nbdx_resume_point)(unsafe.Pointer(&point))) != 0 {
		return ResumePoint{}, s.failure("ResumePoint")
	}
	return point, nil
}

// Stats are what the survey has cost up to now.
func (s *Survey) Stats() (Stats, error) {
	if s.c == nil {
		return Stats{}, ErrClosed
	}
	var stats Stats
	if C.nbdx_survey_stats(s.c, (*C.nbdx_stats)(unsafe.Pointer(&stats))) != 0 {
		return Stats{}, s.failure("Stats")
	}
	return stats, nil
}

// Forgiven lists the deviations from the protocol that did no harm.
func (s *Survey) Forgiven() ([]Forgiven, error) {
	if s.c == nil {
		return nil, ErrClosed
	}
	rows, ok := table(func(rows []Forgiven) C.ssize_t {
		return C.nbdx_survey_forgiven(s.c, (*C.nbdx_forgiven)(first(rows)), C.size_t(len(rows)))
	})
	if !ok {
		return nil, s.failure("Forgiven")
	}
	return rows, nil
}

// Close frees the survey.
func (s *Survey) Close() error {
	C.nbdx_survey_free(s.c)
	s.c = nil
	return nil
}

func (s *Survey) failure(op string) error {
	return failure(op, C.nbdx_survey_error(s.c))
}
