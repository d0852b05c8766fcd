package smtest

// StartRotation begins a rotation and stops in the middle of it, where a test can
// look around: value is AWSPENDING in a new version, whose id it returns, and
// AWSCURRENT is what it was. No function is called; what setSecret would do to a
// database, the test does. [Server.FinishRotation] and [Server.AbandonRotation] are
// the two ways on, [Server.Rotate] with the same value a third.
//
// If a rotation is incomplete already it goes on with that one, whose version must
// be empty or have the same value. Like [Server.Put] it panics if it cannot do what
// it is asked, with the service's error text and never with the value.
func (s *Server) StartRotation(secretID, value string) (versionID string) {
	return s.midway("start rotation of", secretID, func(sec *secret) (string, *Error) {
		v, fail := s.pendLocked(sec, value, timestamp())
		if fail != nil {
			return "", fail
		}
		return v.id, nil
	})
}

// FinishRotation makes the AWSPENDING version of the secret AWSCURRENT, as
// finishSecret does it, takes AWSPENDING off, as the service does it afterwards,
// and returns the version's id. It panics if there is no AWSPENDING version with a
// value, or a rotation is running.
func (s *Server) FinishRotation(secretID string) (versionID string) {
	return s.midway("finish rotation of", secretID, func(sec *secret) (string, *Error) {
		token, incomplete := sec.incomplete()
		if !incomplete || sec.versions[token].value == nil {
			return "", invalidRequest("There is no AWSPENDING version with a value.")
		}
		now := timestamp()
		s.rememberLocked(sec, now)
		sec.moveCurrent(sec.versions[token])
		sec.changed = now
		s.completeLocked(sec, token, now)
		return token, nil
	})
}

// AbandonRotation takes AWSPENDING off its version, as somebody does who clears up
// after a rotation that failed, and returns the version's id. The version keeps its
// value, but without a label nobody finds it who does not know its id. It panics if
// no version but AWSCURRENT is AWSPENDING, or a rotation is running.
func (s *Server) AbandonRotation(secretID string) (versionID string) {
	return s.midway("abandon rotation of", secretID, func(sec *secret) (string, *Error) {
		token, incomplete := sec.incomplete()
		if !incomplete {
			return "", invalidRequest("There is no AWSPENDING version.")
		}
		now := timestamp()
		s.rememberLocked(sec, now)
		delete(sec.labels, labelPending)
		sec.changed = now
		return token, nil
	})
}

func (s *Server) midway(what, secretID string, do func(*secret) (string, *Error)) string {
	s.mu.Lock()
	defer s.release()
	sec, fail := s.rotatableLocked(secretID, timestamp())
	id := ""
	if fail == nil {
		id, fail = do(sec)
	}
	if fail != nil {
		panic("smtest: " + what + " " + quote(secretID) + ": " + fail.Error())
	}
	return id
}
