"""Names of quantities and keys as people write them."""

WRITTEN = {
    "frechet": "Fréchet", "r2": "R²", "d2": "D²", "roc": "ROC", "auc": "AUC", "f1": "F1", "nll": "NLL", "pr": "PR", "kl": "KL",
    "id": "ID", "lr": "learning rate", "rand": "Rand", "bleu": "BLEU", "chrf": "chrF", "rouge": "ROUGE", "meteor": "METEOR",
    "psnr": "PSNR", "ssim": "SSIM", "ms": "MS", "iou": "IoU", "dcg": "DCG", "ndcg": "NDCG", "map": "MAP", "mrr": "MRR",
    "crps": "CRPS", "brier": "Brier",
}  # fmt: skip


def display_name(name: str) -> str:
    """A quantity's name for a picture or a table.

    >>> display_name("frechet_distance"), display_name("f1_macro"), display_name("top_3_accuracy"), display_name("r2_score")
    ('Fréchet distance', 'F1 macro', 'top 3 accuracy', 'R² score')
    """
    return " ".join(WRITTEN.get(word, word) for word in name.split("_"))
