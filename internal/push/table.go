package push

import "context"

// place is where a blob is: in a state, which its next request is for, or, while its bytes are sent and
// committed, at the mode of its bodies.
type place uint16

const (
	choosing place = 1 << iota
	probing
	mounting
	restoring
	opening
	sending
	committing
	confirming
	recovering
	done

	whole
	chunks
	direct
	parts

	bodies = whole | chunks | direct | parts
)

// outcome is what came of the request of a state, or what is known without one.
type outcome int

const (
	failed outcome = iota // in no way that the table knows

	unasked   // whether the blob is there
	mountable // perhaps, from another repository
	noSession // is open
	notAsked  // how much the open session has
	nextBody  // is what the open session waits for

	there     // is the blob, with its length or its digest where that is in doubt
	absent    // it is, as far as the registry tells
	refused   // is this way to ask, though not the blob
	growing   // is the session still
	forgotten // is the session, or it has what cannot be gone on with
	away      // is the host of the session for long
	anew      // is how it is sent: there is little of it, or the URL is used up
	misbegun  // is the session: without the digest, or with a chunk in the place of a part
	stored    // is the blob
	doubtful  // it is whether the blob is stored
	complete  // is the blob where it was sent

	lost        // is the answer, or it passes: 5xx, 429 and their kin
	timedOut    // has a gateway, before the blob was digested: 504, 524, a connection that breaks
	tooLarge    // is the body: 413, 411
	expired     // has a store's URL: 403, or 400 ExpiredToken; the first time for a body
	conflict    // 409 to a session that is ended for the second time; the first time
	unfit       // is this kind of body: 400, 405, 501; the second 404; for a chunk 4xx but 401, 409 and 411
	stepped     // is a chunk where the session is not, perhaps as it is unfit: 416
	unfitAll    // are chunks of any size: the third 416
	outOfStep   // is a session with its URL: 416 of a large blob, twice
	unknown     // is the session: 404, 416, BLOB_UPLOAD_UNKNOWN or _INVALID; three times in a row
	otherDigest // has what the registry got: 400 DIGEST_INVALID, any 400 of another call's session; once
	unread      // was the body, though the answer is a success; once

	late outcome = 1 << 8 // goes with another one: all of the body has left
)

// fate is what an outcome means for the attempt.
type fate int

const (
	goesOn fate = iota // with the next request
	again              // is made: it has failed for what another way may mend
	fails              // with the error, which tells whether another is worth it
)

// rule is a row of the table in the package comment.
type rule struct {
	at      place // or several
	on      outcome
	do      func(ctx context.Context, b *Blob, err error) // nil: nothing
	next    place
	attempt fate
}

var table = []rule{
	{choosing, unasked, nil, probing, goesOn},
	{choosing, mountable, nil, mounting, goesOn},
	{choosing | recovering, noSession, nil, opening, goesOn},
	{choosing | recovering, notAsked, nil, restoring, goesOn},
	{choosing | restoring | opening | chunks | parts | recovering, nextBody, nil, sending, goesOn},
	{recovering, anew, dropSession, opening, goesOn},
	{probing | mounting, there, dropSession, done, goesOn},
	{probing, absent, nil, choosing, goesOn},
	{mounting, refused, nextMount, choosing, goesOn},
	{mounting | opening, lost, recheck, choosing, fails},
	{restoring, growing, nil, restoring, again},
	{restoring, forgotten, leaveSession, recovering, goesOn},
	{restoring, away, dropSession, opening, fails},
	{opening | chunks, misbegun, dropSession, opening, goesOn},
	{opening, refused, withoutBody, opening, goesOn},
	{opening | bodies, stored, nil, done, goesOn},
	{opening | bodies, doubtful, nil, confirming, goesOn},
	{confirming, unread, chunkAnew, opening, again},
	{confirming | recovering, there, nil, done, goesOn},
	{chunks | direct | parts | recovering, complete, nil, committing, goesOn},
	{bodies, lost, nil, recovering, fails},
	{bodies, timedOut, awaitDigest, recovering, fails},
	{whole, tooLarge | late, useChunks, recovering, again},
	{whole, tooLarge, useChunks, sending, goesOn},
	{chunks, tooLarge | late, shrinkChunks, recovering, again},
	{chunks, tooLarge, shrinkChunks, sending, goesOn},
	{whole | chunks, expired | late, noteRenewal, recovering, again},
	{whole | chunks, expired, noteRenewal, sending, again},
	{direct | parts, expired, renewURL, recovering, again},
	{bodies, conflict, noteConflict, recovering, again},
	{whole, unfit | late, patchAnew, opening, goesOn},
	{whole, unfit, usePatch, sending, goesOn},
	{chunks, unfit, suspectSize, recovering, goesOn},
	{chunks, stepped, suspectStep, recovering, goesOn},
	{chunks, unfitAll, usePut, recovering, goesOn},
	{bodies, outOfStep, noteRestart, recovering, again},
	{bodies, unknown, restart, recovering, again},
	{bodies, otherDigest, resend, opening, again},
	{chunks | direct | parts, unread, unexpect, recovering, again},
}

// ruleOf returns the first row for an outcome, whose row for late ones comes first. It returns false where
// there is none.
func ruleOf(at place, on outcome) (rule, bool) {
	for _, r := range table {
		if r.at&at != 0 && (r.on == on || r.on == on&^late) {
			return r, true
		}
	}
	return rule{}, false
}
