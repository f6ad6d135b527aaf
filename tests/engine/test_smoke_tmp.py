from tests.engine.world import *
def test_day():
    w = World(); w.boot_up(); w.go(1); w.start(plan())
    w.go("09:20:10"); print(w.run().state)
    w.go("09:40:05"); print(w.run().state, w.run().exposure)
    audit(w)
    w.go("09:46:00"); print(w.run().state, w.run().outcome)
    print("\n".join(w.journal())); print(w.calls[-40:])
    audit(w); w.close()
def test_sl():
    w = World(); w.boot_up(); w.go(1); w.start(plan())
    w.go("09:20:10"); w.tick("1539"); w.go(2); print(w.run().state, w.run().outcome); audit(w); w.close()
