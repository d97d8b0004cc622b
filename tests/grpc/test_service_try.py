import time
from served import *
async def test_a(served):
    t=time.time()
    data=pcm(48000)
    r=await served.put("a", data)
    print(r, time.time()-t)
    await served.evict("a")
    print(time.time()-t)
    p=Playing(served,"a",pace=2)
    assert await p.whole()==data
    print(p.of("summary"), time.time()-t)
    p=Playing(served,"a")
    assert await p.whole()==data
    print(p.of("summary"), time.time()-t)
    await refused(served.stub.GetSample(pb.GetSampleRequest(sample_id="../x")), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_SAMPLE_ID")
