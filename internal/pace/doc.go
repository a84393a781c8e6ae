// Package pace decides how fast bodies move, and how many at once.
//
//   - [Limiter] caps the bytes per second of a call, or of all calls that share one.
//   - [BodyLimiter] limits how many bodies move at once. For large and for small bodies, it finds the number
//     that moves the most bytes.
//
// # How many bodies at once
//
// A search measures one limit after the other, each for an epoch or more, and compares. What an epoch says
// of the current limit is its verdict, and what follows from it is a row of this table, which the code has
// as data:
//
//	phase      verdict                                    the best is  next
//	measuring  steady: it has its speed                   this one     try twice as many
//	measuring  full: windows of a far link are open       this one     try half as many again
//	measuring  rising: they still open after 200 ms       this one     try four times as many
//	growing    faster: the added bodies are worth it      this one     try twice as many
//	growing    level: it is no faster                     that before  settle
//	growing    lasting: so of many more on a far link     this one     settle
//	growing    slower: it does harm                       that before  settle, keep away from this one
//	growing    ruinous: so much harm that many must end   that before  recall bodies, try a third fewer
//	shrinking  level: it is no slower                     this one     try a third fewer
//	shrinking  slower                                     that before  settle
//	settled    declined: it was faster before             this one     try twice as many; if far, four times
//	settled    due: it was left alone for long enough     this one     try more and fewer in turn
//
// From what is unclear nothing follows: the next epoch decides. A failure that may be one of too many
// bodies halves the limit, and settles.
//
// A link is far where round trips rule: it takes many of them until the windows of TCP are open, and a lost
// packet halves one (or does not: BBR). So on a far link a limit is measured when windows are open, and a
// much larger one is tried where they do not get there, or have closed. [Near] tells a server that is busy
// from one that is far.
//
// What each constant is set by stands beside it. "Simulated" are the tests of the controller, which have a
// model of links and of TCP (reno, cubic and BBR); notes.md is docs/performance/notes.md.
package pace
