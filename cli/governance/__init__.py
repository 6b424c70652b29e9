"""``lossbook governance``: what may be proposed, how a proposal stands, and what comes next."""
