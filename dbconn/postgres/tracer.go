package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// A tracer hears of the end of a connect, for which pgx has no other hook.
type tracer struct{ chain *chain }

// TraceConnectStart gives pgx the user's tracer back: it has yet to look at what
// else that one traces.
func (t *tracer) TraceConnectStart(ctx context.Context, data pgx.TraceConnectStartData) context.Context {
	user := t.chain.user.tracer
	data.ConnConfig.Tracer = user
	if user, ok := user.(pgx.ConnectTracer); ok {
		return user.TraceConnectStart(ctx, data)
	}
	return ctx
}

// TraceConnectEnd gives up a login that has ended in a way that has no hook.
func (t *tracer) TraceConnectEnd(ctx context.Context, data pgx.TraceConnectEndData) {
	t.chain.ended(ctx, errSpent)
	if data.Err != nil {
		t.chain.forget()
	}
	if user, ok := t.chain.user.tracer.(pgx.ConnectTracer); ok {
		user.TraceConnectEnd(ctx, data)
	}
}

// TraceQueryStart implements [pgx.QueryTracer], as what pgx takes for a tracer has to.
func (t *tracer) TraceQueryStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if t.chain.user.tracer == nil {
		return ctx
	}
	return t.chain.user.tracer.TraceQueryStart(ctx, conn, data)
}

// TraceQueryEnd implements [pgx.QueryTracer].
func (t *tracer) TraceQueryEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryEndData) {
	if t.chain.user.tracer != nil {
		t.chain.user.tracer.TraceQueryEnd(ctx, conn, data)
	}
}
