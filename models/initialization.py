import hashlib, torch
def initialize(model, *, seed):
    for name, p in model.named_parameters():
        g = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8],"little")>>1)
        with torch.no_grad():
            if "norm" in name: p.fill_(1.0)
            else: p.copy_(torch.randn(p.shape, generator=g)*0.02)
def parameters_sha256(model):
    h=hashlib.sha256()
    for n,p in model.named_parameters():
        h.update(n.encode()); h.update(p.detach().float().cpu().numpy().tobytes())
    return h.hexdigest()
