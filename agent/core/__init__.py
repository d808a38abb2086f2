"""The core decides; it does no I/O. This page is its theory of operation: read it before any module below.

One function, `step(state, event, now_s, policy, jitter) -> (state, effects)`, takes one event in. AgentState is frozen;
an effect is a request to the outside, and whatever comes of it returns as another event. Nothing here waits, reads a
clock, draws a random number, logs or raises on purpose. A test reads the imports.

The machines
============
Fourteen small machines share AgentState. Each has its model (the values) beside its rules.

machine        model                  states, or what it remembers             moved by
-------------  ---------------------  ---------------------------------------  -------------------------------------
three links    tunnel/model           DOWN, STARTING, UP, for api, reverse     LinkLoggedIn, LinkComplained,
                                      and data (tunnel/transitions, TABLE)     LinkEnded, ApiProbed, ReverseProbed
contest        tunnel/model           an address that is taken, who holds it    LinkEnded, ContestProbed
reverse form   tunnel/model           any port, or the plain form and why       LinkEnded (BIND), ReverseProbed,
                                      (tunnel/reverse_form)                    the clock
hairpin        hairpin/model          works or not and why; lets in k3s?       HairpinChecked
k3s            kubernetes/model       expected?, answering?, node, logins      KubeProbed, KubeLoginsRead
tailnet        tailnet/model          tailscaled's state, login attempts       TailscaledQueried, TailnetJoinTried
offer          machine_api/model      everything, or nothing and why           nothing: derived anew in every step
registration   machine_api/model      checked, known, what was advertised      CallEnded
lease          machine_api/model      ready?, expires at, next keepalive       CallEnded, the clock
call           machine_api/model      at most one in flight, with a deadline   CallEnded, the clock
shutdown       lifecycle/model        none, a kind, the drain's phases         ShutdownRequested, NoticeReceived,
                                      (lifecycle/drain, TABLE)                 NodeCordoned, JobsCleared, WorkersListed,
                                                                               StopWritten
exit           lifecycle/model        undecided, or an exit code and why       derived (lifecycle/exits)

The *displayed* state (STARTING to FAILED, lifecycle/displayed_state) is not one of them. It is a projection of the
others for people, computed last; the machines never look at it, except that nothing happens after STOPPED or FAILED.

Joint states that matter
========================
Most rules concern one machine. These concern several at once, and are where a change is most likely to go wrong:

- In the plain form the reverse link is wanted only while k3s answers locally (transitions.is_wanted): a dial that hangs
  at a sick k3s stops the gateway's whole pool, one that is refused harms nobody. In the form of any port it stays, for
  the sake of other ports: the hairpin rejects what is for k3s (hairpin/upkeep), and the link is STARTING until the
  path has answered again.
- Where any port is impossible the plain form stands in (reverse_form); a link of the other form is replaced.
- While sshd is out of reach or refuses the key, only the api link attempts a login (schedule._may_attempt); its login
  lets the others try (ssh_events._retry_others).
- Everything is offered, or nothing (offer.REASONS): what is offered must be able to start here at this moment. A
  reverse link that is being replaced gets `path_grace_s` before the offer is withdrawn.
- A registration waits until it would be true (calls.awaited): k3s was looked for, GPUs are advertised, the path
  works, each within a bound. A keepalive makes the machine ready, so none is sent before the path has worked once.
- A registration sets the machine back to `registered`: a keepalive follows at once. `machine not found` and an expired
  lease mean registering again.
- From the first moment of a shutdown nothing is offered. The lease is kept until the drain's FAREWELL, a registration
  that no keepalive follows.
- A fault that no retry fixes ends the process only before the first registration. Afterwards only a shutdown does.

Who writes what
===============
A machine's part of the state is written by its own rules. The exceptions: a login that fails or succeeds moves
`denied_at_s`, which all links read; tailscaled's state takes the api link down (tailnet/login); probe_results brings
the next keepalive and retry forward when the gateway is back; kubernetes/health forgets the cordon of another cluster;
lifecycle/cordon brings the next probe of k3s forward; shutdown shortens the deadline of a keepalive in flight.

Order inside one step
=====================
1. The event's handler updates its machine (step.HANDLERS). Events of an earlier generation or call are ignored.
2. Facts, k3s probe, tailscaled query and hairpin check that are due; then the links: start, stop, probe.
3. exits.decide_exit, now that a link may have failed for good; then the drain and the cordon.
4. offer.decide: after the links and the drain, because it depends on both.
5. calls.manage: after the offer, because a registration advertises it.
6. shutdown.manage: complete only once the last call has been made.
7. displayed_state.follow. In a final state the links are stopped, and Exit is the last effect.

Time passes by Tick events: `wake_in_s` says when the next one is due. Waking early costs a look, never a mistake.
"""
