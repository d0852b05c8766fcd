package smtest

type listSecretsInput struct {
	Filters                []filterInput `json:"Filters"`
	IncludePlannedDeletion bool          `json:"IncludePlannedDeletion"`
	MaxResults             *int          `json:"MaxResults"`
	NextToken              string        `json:"NextToken"`
	SortBy                 string        `json:"SortBy"`
	SortOrder              string        `json:"SortOrder"`
}

func (in listSecretsInput) target() target { return target{} }

func (in listSecretsInput) order() (order, *Error) {
	switch in.SortBy {
	case "", "created-date", "last-accessed-date", "last-changed-date", "name":
	default:
		return order{}, constraint("sortBy",
			"Member must satisfy enum value set: [created-date, last-accessed-date, last-changed-date, name]")
	}
	switch in.SortOrder {
	case "", "asc", "desc":
	default:
		return order{}, constraint("sortOrder", "Member must satisfy enum value set: [asc, desc]")
	}
	return order{by: in.SortBy, desc: in.SortOrder == "desc"}, nil
}

type listSecretsOutput struct {
	SecretList []listedSecret
	NextToken  string `json:"NextToken,omitempty"`
}

type listedSecret struct {
	secretDetails

	SecretVersionsToStages map[string][]string `json:"SecretVersionsToStages,omitempty"`
}

// listSecrets lists the secrets of the caller's account and Region by the date of
// their creation, unless it is told otherwise.
func listSecrets(req *request, in listSecretsInput) (listSecretsOutput, *Error) {
	var none listSecretsOutput
	o, err := in.order()
	if err != nil {
		return none, err
	}
	limit, err := pageSize(in.MaxResults, 100)
	if err != nil {
		return none, err
	}
	if err := req.authorizeOn(req.iamAction(), "*", "*"); err != nil {
		return none, err
	}
	found, next, err := req.search(in.Filters, o, in.NextToken, limit, in.IncludePlannedDeletion)
	if err != nil {
		return none, err
	}
	out := listSecretsOutput{SecretList: make([]listedSecret, len(found)), NextToken: next}
	for i, sec := range found {
		out.SecretList[i] = listedSecret{secretDetails: sec.details(), SecretVersionsToStages: sec.stagesByVersion()}
	}
	return out, nil
}

// search returns a page of the secrets that match all filters, and the token of the
// next one.
func (req *request) search(filters []filterInput, o order, token string, limit int, deleted bool) ([]*secret, string, *Error) {
	match, err := parseFilters(filters)
	if err != nil {
		return nil, "", err
	}
	after, err := parseToken(token, o.cursor(&secret{content: &content{}}).List)
	if err != nil {
		return nil, "", err
	}
	found, next := req.store.page(o, after, limit, func(sec *secret) bool {
		if sec = req.see(sec); sec == nil {
			return false
		}
		if sec.deleted() && (!deleted || !req.now.Before(sec.deletion)) {
			return false
		}
		for i := range match {
			if !match[i].matches(sec) {
				return false
			}
		}
		return true
	})
	for i := range found {
		found[i] = req.see(found[i])
	}
	if next == nil {
		return found, "", nil
	}
	return found, next.token(), nil
}
