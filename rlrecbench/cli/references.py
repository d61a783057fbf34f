"""The papers behind the citation keys of methods, rewards, metrics and backbones."""

from typing import NamedTuple


class Reference(NamedTuple):
    """One paper.

    Attributes:
        authors: Surnames; "et al." stands for more than six.
        title: As printed.
        venue: Where and when.
        arxiv: Number of the preprint, or "".
    """

    authors: str
    title: str
    venue: str
    arxiv: str = ""

    def __str__(self) -> str:
        """One line of a list of references."""
        arxiv = f" arXiv:{self.arxiv}." if self.arxiv else ""
        return f"{self.authors.rstrip('.')}. {self.title}. {self.venue}.{arxiv}"


REFERENCES = {
    "bai2024dmpo": Reference(
        "Bai, Wu, Cai, Zhu and Xiong",
        "Aligning Large Language Model with Direct Multi-Preference Optimization for Recommendation",
        "CIKM 2024, 76-86",
        "2405.16127",
    ),
    "bao2023bigrec": Reference(
        "Bao, Zhang, Wang, Zhang, Yang et al.",
        "A Bi-Step Grounding Paradigm for Large Language Models in Recommendation Systems",
        "ACM Transactions on Recommender Systems",
        "2308.08434",
    ),
    "bao2024d3": Reference(
        "Bao, Zhang, Zhang, Huo, Chen and Feng",
        "Decoding Matters: Addressing Amplification Bias and Homogeneity Issue for LLM-based Recommendation",
        "EMNLP 2024, 10540-10552",
        "2406.14900",
    ),
    "chen2024sdpo": Reference(
        "Chen, Tan, Zhang, Yang, Sheng et al.",
        "On Softmax Direct Preference Optimization for Recommendation",
        "NeurIPS 2024",
        "2406.09215",
    ),
    "deng2025onerec": Reference(
        "Deng, Wang, Cai, Ren, Hu et al.",
        "OneRec: Unifying Retrieve and Rank with Generative Recommender and Iterative Preference Alignment",
        "2025",
        "2502.18965",
    ),
    "flower": Reference(
        "Gao, Gao, Fan, Yuan, Shi and He",
        "Process-Supervised LLM Recommenders via Flow-guided Tuning",
        "SIGIR 2025",
        "2503.07377",
    ),
    "gao2024sprec": Reference(
        "Gao, Chen, Yuan, Huang, Yu and He",
        "SPRec: Self-Play to Debias LLM-based Recommendation",
        "WWW 2025, 5075-5084",
        "2412.09243",
    ),
    "gflowgr": Reference(
        "Wang, Zhou, Lu, Liu, Li et al.",
        "GFlowGR: Fine-tuning Generative Recommendation Frameworks with Generative Flow Networks",
        "2025, first version",
        "2506.16114",
    ),
    "jiang2024ifairlrs": Reference(
        "Jiang, Bao, Zhang, Wang, Yang et al.",
        "Item-side Fairness of Large Language Model-based Recommendation System",
        "WWW 2024",
        "2402.15215",
    ),
    "kang2018sasrec": Reference("Kang and McAuley", "Self-Attentive Sequential Recommendation", "ICDM 2018, 197-206"),
    "liao2024rosepo": Reference(
        "Liao, He, Xie, Wu, Yuan et al.",
        "RosePO: Aligning LLM-based Recommenders with Human Values",
        "2024",
        "2410.12519",
    ),
    "rafailov2023dpo": Reference(
        "Rafailov, Sharma, Mitchell, Manning, Ermon and Finn",
        "Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
        "NeurIPS 2023, 53728-53741",
        "2305.18290",
    ),
    "rajput2023tiger": Reference(
        "Rajput, Mehta, Singh, Keshavan, Vu et al.",
        "Recommender Systems with Generative Retrieval",
        "NeurIPS 2023, 10299-10315",
    ),
    "schulman2017ppo": Reference(
        "Schulman, Wolski, Dhariwal, Radford and Klimov",
        "Proximal Policy Optimization Algorithms",
        "2017",
        "1707.06347",
    ),
    "shao2024grpo": Reference(
        "Shao, Wang, Zhu, Xu, Song et al.",
        "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models",
        "2024",
        "2402.03300",
    ),
    "szegedy2016inception": Reference(
        "Szegedy, Vanhoucke, Ioffe, Shlens and Wojna",
        "Rethinking the Inception Architecture for Computer Vision",
        "CVPR 2016, 2818-2826",
        "1512.00567",
    ),
    "wang2024letter": Reference(
        "Wang, Bao, Lin, Zhang, Li et al.",
        "Learnable Item Tokenization for Generative Recommendation",
        "CIKM 2024, 2400-2409",
    ),
}


def paper(cite: str) -> str:
    """The reference of a citation key; the key itself where it is not known, such as a plug-in's."""
    return str(REFERENCES.get(cite, cite))
