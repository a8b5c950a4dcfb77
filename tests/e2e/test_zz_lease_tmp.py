import asyncio, time, sqlite3
from tests.e2e.client import Client
from tests.waiting import eventually
async def test_lease(make_hermes):
    h=make_hermes(HERMES_LEASE_SECONDS="30")
    try:
        h.start()
        for delay in (0,40):
            async with Client(h,"alice") as a, Client(h,"bob") as b:
                live={(await c.hello())["connection_id"] for c in (a,b)}
                await eventually(lambda: h.live_rows()==live,20)
                db=str(h.directory/"hermes.sqlite3")
                def open_rows():
                    con=sqlite3.connect(db); r={x[0] for x in con.execute("select connection_id from notifications_connection where closed_at is null")}; con.close(); return r
                await eventually(lambda: open_rows()==live,20)
                await asyncio.to_thread(h.kill_server); killed=time.monotonic()
                await asyncio.sleep(delay)
                await asyncio.to_thread(h.start_server)
                done={}
                def both():
                    t=time.monotonic()-killed
                    if not h.live_rows(): done.setdefault("dynamodb",t)
                    if not open_rows(): done.setdefault("sql",t)
                    return len(done)==2
                await eventually(both,100)
                print("RESULT restart after",delay,done)
    finally: h.stop()
